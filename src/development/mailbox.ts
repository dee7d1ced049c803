/** Keeps every notification to a user as a mail, for the page /dev/mailbox. Used in development only. */

import { writeAccountMail } from '../authentication-device/channels/account-notice-text.ts'
import type { Channel } from '../authentication-device/channels/device-notice.ts'
import { type Mail, writeMail } from '../authentication-device/channels/mail.ts'
import type { Outcome } from '../outbox/notification.ts'
import type { Clock } from '../platform/clock.ts'
import type { Texts } from '../platform/i18n/texts.ts'
import type { User } from '../user/user.ts'

export interface KeptMail extends Mail {
  /** The id of the notification. If a notification is sent again, the id stays the same. */
  id: string
  /** The id of the authentication request that the mail is about. Undefined for mails about an account. */
  requestId?: string
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
  /** Called for every new mail. */
  onMail?: ((mail: KeptMail) => void) | undefined
}

/** Creates a mailbox in memory, which keeps the newest 100 mails of all users. */
export function createMailbox({ texts, clock, onMail }: MailboxNeeds): Mailbox {
  const mails: KeptMail[] = []
  return {
    kind: 'mailbox',
    reaches: () => true,
    isForDevelopers: true,
    async send(notice) {
      const { id, request, user, link } = notice
      return keep({ id, requestId: request.request_id, to: nameOf(user), ...writeMail(notice, texts), link })
    },
    async sendAccount(notice) {
      const { id, link } = notice.change
      return keep({ id, to: nameOf(notice.user), ...writeAccountMail(notice, texts), link })
    },
    mails: () => mails,
  }

  function keep(written: Omit<KeptMail, 'at'>): Outcome {
    if (mails.some(({ id }) => id === written.id)) return { kind: 'delivered', words: 'already in the mailbox' }
    const mail = { ...written, at: new Date(clock.now()).toISOString() }
    mails.unshift(mail)
    mails.length = Math.min(mails.length, kept)
    onMail?.(mail)
    return { kind: 'delivered', words: 'handed to mailbox' }
  }
}

/** Returns the user's mail address, or another name of the user if there is none. */
const nameOf = (user: User) => user.email ?? user.username ?? user.id
