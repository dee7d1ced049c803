/** Notifies users by mail. */

import type { Outcome } from '../../outbox/notification.ts'
import type { Texts } from '../../platform/i18n/texts.ts'
import type { User } from '../../user/user.ts'
import { writeAccountMail } from './account-notice-text.ts'
import type { Channel } from './device-notice.ts'
import { isMailAddress, type Mail, writeMail } from './mail.ts'
import { addressIn, needsSmtpUtf8, requireSmtpUtf8 } from './mail-address-support.ts'
import { type MailServer, meaningOfRefusal, openTransport, openTransportForOne } from './mail-transport.ts'

export interface EmailNeeds extends Omit<MailServer, 'hostname'> {
  from: string
  issuer: string
  texts: Texts
}

/**
 * Creates the mail channel, which reaches users that have a valid mail address. Permanent SMTP errors are not retried.
 */
export function createEmailChannel({ from, issuer, texts, ...server }: EmailNeeds): Channel {
  const { hostname } = new URL(issuer)
  let opened: ReturnType<typeof openTransport> | undefined
  return {
    kind: 'email',
    reaches: ({ email }) => isMailAddress(email),
    send: (notice, signal) => sendTo(notice.user, notice.id, writeMail(notice, texts), signal),
    sendAccount: (notice, signal) => sendTo(notice.user, notice.change.id, writeAccountMail(notice, texts), signal),
    close: async () => (await opened)?.close({ force: true }),
  }

  async function sendTo({ email }: User, id: string, mail: Mail, signal: AbortSignal): Promise<Outcome> {
    if (!isMailAddress(email)) return { kind: 'refused', words: 'the user has no mail address' }
    const utf8 = new AbortController()
    const isBeyondAscii = needsSmtpUtf8(email) || needsSmtpUtf8(addressIn(from))
    if (!isBeyondAscii) opened ??= openTransport({ ...server, hostname })
    const transport = await (isBeyondAscii
      ? openTransportForOne({ ...server, hostname }, requireSmtpUtf8(utf8))
      : opened!)
    try {
      await transport.sendMail({
        ...mail,
        from,
        // Nodemailer treats an object as one address, but parses a string as a list of addresses.
        to: { name: '', address: email },
        messageId: `<${id}@${hostname}>`,
        headers: { 'Auto-Submitted': 'auto-generated' },
        signal: AbortSignal.any([signal, utf8.signal, AbortSignal.timeout(server.timeout)]),
      })
      return { kind: 'delivered', words: 'accepted by the mail server' }
    } catch (error) {
      if (signal.aborted) throw error
      return utf8.signal.aborted ? withoutSmtpUtf8 : meaningOfRefusal(error)
    }
  }
}

const withoutSmtpUtf8: Outcome = {
  kind: 'refused',
  words: 'the mail server does not support SMTPUTF8, which the mail address needs',
}
