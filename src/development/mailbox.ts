/** In development nobody is mailed: what would be mailed is kept, and shown at /dev/mailbox. */
import type { Channel, Notice } from '../authentication-device/device-notice.ts'
import type { Clock } from '../clock.ts'

export interface Mail {
  requestId: string
  to: string
  subject: string
  text: string
  link: string
  /** ISO 8601. */
  at: string
}

export interface Mailbox extends Channel {
  /** Newest first. */
  mails(): readonly Mail[]
}

const kept = 100

export function createMailbox(clock: Clock): Mailbox {
  const mails: Mail[] = []
  return {
    kind: 'mailbox',
    addressOf: (user) => user.email ?? user.username ?? user.id,
    async send(notice) {
      if (mails.some((mail) => mail.requestId === notice.requestId)) return
      mails.unshift(write(notice, clock.now()))
      mails.length = Math.min(mails.length, kept)
    },
    mails: () => mails,
  }
}

function write(notice: Notice, now: number): Mail {
  const minutes = Math.max(1, Math.round((notice.expiresAt - now) / 60_000))
  const lines = [
    `${notice.clientName} asks for your approval.`,
    ...(notice.bindingMessage === undefined
      ? []
      : ['', `    ${notice.bindingMessage}`, '', 'Is this what you see there?']),
    '',
    `Approve or deny within ${minutes} ${minutes === 1 ? 'minute' : 'minutes'}:`,
    notice.link,
    '',
    'If you did not start this, deny it.',
  ]
  return {
    requestId: notice.requestId,
    to: notice.to,
    subject: `${notice.clientName} asks for your approval`,
    text: lines.join('\n'),
    link: notice.link,
    at: new Date(now).toISOString(),
  }
}
