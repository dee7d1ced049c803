/** In development what is mailed, or would be, is kept too, and shown at /dev/mailbox. */
import type { Channel } from '../authentication-device/device-notice.ts'
import type { Clock } from '../clock.ts'
import { type Mail, writeMail } from '../device-channels/mail.ts'
import type { Texts } from '../i18n/texts.ts'
import type { User } from '../user-hint/user.ts'

export interface KeptMail extends Mail {
  requestId: string
  to: string
  link: string
  /** ISO 8601. */
  at: string
}

export interface Mailbox extends Channel {
  /** Newest first. */
  mails(): readonly KeptMail[]
}

const kept = 100

export interface MailboxNeeds {
  texts: Texts
  clock: Clock
  /** Hears of every mail that comes in. */
  onMail?: ((mail: KeptMail) => void) | undefined
}

export function createMailbox({ texts, clock, onMail }: MailboxNeeds): Mailbox {
  const mails: KeptMail[] = []
  return {
    kind: 'mailbox',
    reaches: () => true,
    async send(notice) {
      const requestId = notice.request.request_id
      if (mails.some((mail) => mail.requestId === requestId)) return { kind: 'delivered', words: 'there already' }
      const at = new Date(clock.now()).toISOString()
      const mail = { requestId, to: nameOf(notice.user), ...writeMail(notice, texts), link: notice.link, at }
      mails.unshift(mail)
      mails.length = Math.min(mails.length, kept)
      onMail?.(mail)
      return { kind: 'delivered', words: 'handed to mailbox' }
    },
    mails: () => mails,
  }
}

/** A user without an address is shown here all the same. */
const nameOf = (user: User) => user.email ?? user.username ?? user.id
