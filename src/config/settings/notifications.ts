/** Settings of notifications to clients (ping and push) and to users. */
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
    timeout: setting(
      whole('seconds', 1, 60).default(5),
      'How long an attempt to send a notification to a client or a user may take. Fetches of key sets and other ' +
        'documents of clients may take as long.',
    ),
    attempts: setting(
      whole('attempts', 1, 50).default(8),
      'How many attempts are made to send a notification to a client. After that, the notification is parked: it is ' +
        'sent again only if an operator requests it. Notifications to users are retried without this limit, until ' +
        'their deadline.',
    ),
    allowPrivateNetworks: setting(
      yesOrNo().default(false),
      'Whether calls to clients (notifications, fetches of key sets) may go to addresses of private networks. ' +
        'Outside development, `true` cannot be combined with `registration.mode` `open`: any client could make the ' +
        'server call into your network.',
    ),
    ca: setting(
      pem('certificates').exactOptional(),
      'Certificate authorities that are trusted for calls to clients, besides those that Node.js trusts.',
      { example: "'authorities.pem'", isSketch: true },
    ),
  }).prefault({}),
  email: setting(
    section({
      smtp: setting(
        secretText(smtpForms, isSmtp).exactOptional(),
        'The server for mails that notify users ([device-channels.md](guides/device-channels.md)). If the ' +
          'address contains a password, set it in `DOORBELL_EMAIL_SMTP` instead of the file.',
        { example: "'smtp://localhost:25'" },
      ),
      from: setting(text(senderForm, isSender).exactOptional(), 'The sender of mails.', {
        example: "'Doorbell <no-reply@example.com>'",
      }),
      ca: setting(
        pem('certificates').exactOptional(),
        'Certificate authorities that are trusted for the mail server, besides those that Node.js trusts.',
        { example: "'mail-ca.pem'", isSketch: true },
      ),
    }).exactOptional(),
    'Mails that notify users of requests. Users can also be notified by `webPush`, `deviceWebhook` or the hook `notify`. ' +
      'Without any of these, the app of the users has to poll.',
  ),
  webPush: section({
    subject: setting(
      text(subjectForm, isSubject).exactOptional(),
      'For push messages to browsers: the address at which push services can report problems to the operator.',
      { example: "'mailto:ops@example.com'" },
    ),
  }).exactOptional(),
  deviceWebhook: section({
    url: setting(
      secretText(webhookForm, isPlainUrl).exactOptional(),
      'A service of yours that is called for each authentication request and for each change of the account of a user.',
      { example: "'https://bank.example/doorbell'" },
    ),
    secret: setting(
      secretText(webhookSecretForm, (secret) => secret.length >= 32).exactOptional(),
      'The secret that signs the calls to `deviceWebhook.url`: `whsec_…` as in Standard Webhooks, or any other text. ' +
        'Preferably set in `DOORBELL_DEVICE_WEBHOOK_SECRET`.',
      { example: "'preferably-set-in-DOORBELL_DEVICE_WEBHOOK_SECRET'" },
    ),
  }).exactOptional(),
}
