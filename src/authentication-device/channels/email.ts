/** Notifies users by mail. */

import type { Outcome } from '../../outbox/notification.ts'
import type { Texts } from '../../platform/i18n/texts.ts'
import type { User } from '../../user/user.ts'
import { writeAccountMail } from './account-notice-text.ts'
import type { Channel } from './device-notice.ts'
import { isMailAddress, type Mail, writeMail } from './mail.ts'
import { type MailServer, meaningOfRefusal, openTransport } from './mail-transport.ts'

export interface EmailNeeds extends Omit<MailServer, 'hostname'> {
  from: string
  issuer: string
  texts: Texts
}

/** Creates the mail channel, which reaches users that have a valid mail address. Permanent SMTP errors are not retried. */
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
    opened ??= openTransport({ ...server, hostname })
    const transport = await opened
    try {
      await transport.sendMail({
        ...mail,
        from,
        // An object is one address; a string would be parsed as a list of addresses.
        to: { name: '', address: email },
        messageId: `<${id}@${hostname}>`,
        headers: { 'Auto-Submitted': 'auto-generated' },
        signal: AbortSignal.any([signal, AbortSignal.timeout(server.timeout)]),
      })
      return { kind: 'delivered', words: 'accepted by the mail server' }
    } catch (error) {
      if (signal.aborted) throw error
      return meaningOfRefusal(error)
    }
  }
}
