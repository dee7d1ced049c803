/** Notifies users by mail. */

import type { Outcome } from '../../outbox/notification.ts'
import { isLoopback } from '../../platform/http/web-address.ts'
import type { Texts } from '../../platform/i18n/texts.ts'
import type { User } from '../../user/user.ts'
import { writeAccountMail } from './account-notice-text.ts'
import type { Channel } from './device-notice.ts'
import { isMailAddress, type Mail, writeMail } from './mail.ts'
import { addressIn, needsSmtpUtf8, requireSmtpUtf8 } from './mail-address-support.ts'

export interface MailServer {
  /** `smtp://user:password@host:port`, or `smtps://` for TLS from the first byte. */
  smtp: string
  /** Milliseconds for a whole delivery: DNS, connection, transfer. */
  timeout: number
}

export interface EmailNeeds extends MailServer {
  from: string
  issuer: string
  texts: Texts
}

/** Creates the mail channel, which reaches users that have a valid mail address. Permanent SMTP errors are not retried. */
export function createEmailChannel({ from, issuer, texts, ...server }: EmailNeeds): Channel {
  const settings = settingsFor(server)
  const { hostname } = new URL(issuer)
  return {
    kind: 'email',
    reaches: ({ email }) => isMailAddress(email),
    send: (notice, signal) => sendTo(notice.user, notice.id, writeMail(notice, texts), signal),
    sendAccount: (notice, signal) => sendTo(notice.user, notice.change.id, writeAccountMail(notice, texts), signal),
  }

  async function sendTo({ email }: User, id: string, mail: Mail, signal: AbortSignal): Promise<Outcome> {
    if (!isMailAddress(email)) return { kind: 'refused', words: 'the user has no mail address' }
    const utf8 = new AbortController()
    const isBeyondAscii = needsSmtpUtf8(email) || needsSmtpUtf8(addressIn(from))
    const transport = await openTransport({ ...settings, ...(isBeyondAscii && requireSmtpUtf8(utf8)) })
    try {
      await transport.sendMail({
        ...mail,
        from,
        // An object is one address; a string would be parsed as a list of addresses.
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

/** Connects to the mail server and authenticates. Resolves to undefined, or to the reason if this fails. */
export async function tryMailServer(server: MailServer): Promise<string | undefined> {
  const transport = await openTransport(settingsFor(server))
  try {
    await transport.verify()
    return undefined
  } catch (error) {
    return meaningOfRefusal(error).words
  } finally {
    transport.close()
  }
}

/** Imported when the first mail is sent, because most servers send no mail. */
const nodemailer = () => import('nodemailer')

async function openTransport(settings: ReturnType<typeof settingsFor>) {
  const { createTransport } = await nodemailer()
  return createTransport(settings)
}

function settingsFor({ smtp, timeout }: MailServer) {
  const url = new URL(smtp)
  const secure = url.protocol === 'smtps:'
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || (secure ? 465 : 587)),
    secure,
    ...(url.username !== '' && {
      auth: { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) },
      // STARTTLS is required: otherwise an attacker could remove the server's offer of STARTTLS and read the password.
      requireTLS: !secure && !isLoopback(url.hostname),
    }),
    dnsTimeout: timeout,
    connectionTimeout: timeout,
    greetingTimeout: timeout,
    socketTimeout: timeout,
    socketCloseTimeout: 0,
    disableFileAccess: true,
    disableUrlAccess: true,
  }
}

interface SmtpError {
  code?: string
  responseCode?: number
  response?: string
}

/**
 * Returns the outcome of a failed delivery. 5xx and an invalid address are permanent; other failures are retried. The text
 * of the mail server is not stored, because it may contain the user's address.
 */
function meaningOfRefusal(error: unknown): Outcome {
  const { code, responseCode, response } = error as SmtpError
  if (responseCode !== undefined) {
    const detail = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})\b/.exec(response ?? '')?.[1]
    const words = `the mail server answered ${responseCode}${detail === undefined ? '' : ` (${detail})`}`
    return { kind: responseCode >= 500 ? 'refused' : 'failed', words }
  }
  if (code === 'EENVELOPE') return { kind: 'refused', words: 'the mail address is not valid' }
  if (code === 'EABORT' || code === 'ETIMEDOUT') return { kind: 'failed', words: 'timeout' }
  return { kind: 'failed', words: `the mail server cannot be reached (${code ?? 'unknown'})` }
}
