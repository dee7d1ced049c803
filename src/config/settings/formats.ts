/** Formats of single settings: functions that check a value, and the descriptions of the formats for error messages. */
import { isIP } from 'node:net'
import { problemWithPostgresUrl } from '../../platform/storage/postgres-address.ts'

export const smtpForms = '"smtp://user:password@host:port" or "smtps://…", user, password and port as needed'
export const senderForm = 'a mail address, like "no-reply@example.com" or "Doorbell <no-reply@example.com>"'
export const subjectForm = '"mailto:" and a mail address, or an https address'
export const webhookForm = 'an https address, without user name and fragment'
export const webhookSecretForm = 'at least 32 characters'
export const metricsTokenForm = 'at least 32 printable ASCII characters without spaces'

export function isHost(host: string): boolean {
  return isIP(host) !== 0 || (host.length <= 253 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(host))
}

export function databaseForms(): string {
  return '"sqlite:<file>", "sqlite::memory:" or "postgres://user:password@host/name"'
}

const isPostgres = (address: string) => /^postgres(ql)?:\/\//.test(address)

export function isDatabase(address: string): boolean {
  if (isPostgres(address)) return problemWithPostgresUrl(address) === undefined
  // `sqlite://file` is refused, because it is not clear whether `file` is a host name or a path.
  return /^sqlite:./.test(address) && !/^sqlite:\/\/(?!\/)/.test(address)
}

/**
 * Returns why a Postgres URL cannot be used, as the end of an error message without secrets. Returns an empty text for
 * all other values.
 */
export function databaseHint(address: unknown): string {
  if (typeof address !== 'string' || !isPostgres(address)) return ''
  const problem = problemWithPostgresUrl(address)
  return problem === undefined ? '' : `; the URL ${problem}`
}

export function secretForm(): string {
  return 'at least 32 bytes in base64url, which are 43 characters'
}

/** Returns whether a text is valid as the setting `secret`: at least 32 bytes, base64url. */
export function isSecret(secret: string): boolean {
  return /^[A-Za-z0-9_-]+$/.test(secret) && Buffer.from(secret, 'base64url').length >= 32
}

/** The command that prints a new secret. */
export const secretCommand = 'node -p "crypto.randomBytes(32).toString(\'base64url\')"'

/** Returns why a text is not a valid secret, and how to make one, as the end of an error message. */
export function secretHint(secret: unknown): string {
  const isOtherAlphabet = typeof secret === 'string' && /[^A-Za-z0-9_-]/.test(secret)
  const cause = isOtherAlphabet
    ? ', with characters other than A–Z, a–z, 0–9, "-" and "_" ("+", "/" and "=" are base64, not base64url)'
    : ''
  return `${cause}; make one with: ${secretCommand}`
}

/**
 * Returns whether a text is a valid address of a mail server. Without this check, a mistake would be noticed only when
 * the first mail is sent.
 */
export function isSmtp(address: string): boolean {
  const url = URL.parse(address)
  return (
    url !== null &&
    ['smtp:', 'smtps:'].includes(url.protocol) &&
    url.hostname !== '' &&
    ['', '/'].includes(url.pathname) &&
    url.search === '' &&
    url.hash === '' &&
    isDecodable(url.username) &&
    isDecodable(url.password)
  )
}

export function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

const mailAddress = /[^\s@<>()[\],;:"\\]+@[^\s@<>()[\],;:"\\]+/.source
const sender = new RegExp(`^(${mailAddress}|("[^"\\\\\r\n]*"|[^<>"@,;:\r\n]+) ?<${mailAddress}>)$`)

export function isSender(from: string): boolean {
  return sender.test(from)
}

export function isSubject(subject: string): boolean {
  if (/^mailto:/.test(subject)) return new RegExp(`^${mailAddress}$`).test(subject.slice('mailto:'.length))
  return isPlainUrl(subject) && subject.startsWith('https:')
}

export function isPlainUrl(address: string): boolean {
  const url = URL.parse(address)
  return (
    url !== null &&
    ['http:', 'https:'].includes(url.protocol) &&
    url.username === '' &&
    url.password === '' &&
    !address.includes('#')
  )
}

export function pemForm(what: string): string {
  return `a file with ${what === 'certificates' ? '' : 'a '}PEM ${what}, or its text`
}

export function isPem(text: string): boolean {
  return text.startsWith('-----BEGIN ')
}

export function isRange(range: string): boolean {
  const [address = '', bits, ...rest] = range.split('/')
  const version = isIP(address)
  if (version === 0 || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128))
}

export function isHeaderName(name: string): boolean {
  return /^[\w-]+$/.test(name)
}

export function isScope(scope: string): boolean {
  return /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope)
}
