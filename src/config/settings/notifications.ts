/** How clients learn of decisions, and users of requests. */
import {
  isPlainUrl,
  isSender,
  isSmtp,
  isSubject,
  senderForm,
  smtpForms,
  subjectForm,
  webhookForm,
  webhookSecretForm,
} from './formats.ts'
import { pem, secretText, section, text, whole, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

export const notificationSettings = {
  notifications: section({
    timeout: setting(whole('seconds', 1, 60).default(5), 'How long a client has to answer a ping or push.'),
    attempts: setting(whole('attempts', 1, 50).default(8), 'How often one is tried before it is parked.'),
    allowPrivateNetworks: setting(
      yesOrNo().default(false),
      'Whether notifications may go to addresses of private networks. Outside development not together with ' +
        '`registration.mode` `open`: strangers could make the server call into your network.',
    ),
    ca: setting(
      pem('certificates').exactOptional(),
      'Authorities that are trusted for calls to clients, besides those that Node knows.',
      { example: "'authorities.pem'", isSketch: true },
    ),
  }).prefault({}),
  email: setting(
    section({
      smtp: setting(
        secretText(smtpForms, isSmtp).exactOptional(),
        'The server by which users are told by mail ([device-channels.md](guides/device-channels.md)). An address with a ' +
          'password is better kept in `DOORBELL_EMAIL_SMTP`.',
        { example: "'smtp://localhost:25'" },
      ),
      from: setting(text(senderForm, isSender).exactOptional(), 'Who mails come from.', {
        example: "'Doorbell <no-reply@example.com>'",
      }),
    }).exactOptional(),
    'How users are told of requests: by mail, web push, your own service, or the hook `notify`. Without any of them ' +
      'their app has to ask.',
  ),
  webPush: section({
    subject: setting(
      text(subjectForm, isSubject).exactOptional(),
      'For push messages to browsers: where push services reach the operator if something is wrong with them.',
      { example: "'mailto:ops@example.com'" },
    ),
  }).exactOptional(),
  deviceWebhook: section({
    url: setting(
      secretText(webhookForm, isPlainUrl).exactOptional(),
      'A service of yours that is called with every request.',
      { example: "'https://bank.example/doorbell'" },
    ),
    secret: setting(
      secretText(webhookSecretForm, (secret) => secret.length >= 32).exactOptional(),
      'What these calls are signed with: `whsec_…` as Standard Webhooks has it, or any other text. It is better kept in `DOORBELL_DEVICE_WEBHOOK_SECRET`.',
      { example: "'better-kept-in-DOORBELL_DEVICE_WEBHOOK_SECRET'" },
    ),
  }).exactOptional(),
}
