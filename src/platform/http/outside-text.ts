/**
 * Checks whether text from outside can be stored and compared. Every value is checked once, when it is read (from a
 * URL, a form, JSON, or the claims of a JWT). PostgreSQL accepts neither NUL nor lone surrogates, not even in
 * comparisons.
 */
import { OAuthError } from '../oauth-error.ts'

/**
 * Returns whether a text can be stored: it contains no NUL, and no lone surrogate, which cannot be encoded in UTF-8.
 */
export function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}

/**
 * Returns whether all texts in a JSON value can be stored, including member names. Recursive: check the value with
 * `isTooDeep` first.
 */
export function holdsOnlyStorable(value: unknown): boolean {
  if (typeof value === 'string') return isStorable(value)
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([name, inner]) => isStorable(name) && holdsOnlyStorable(inner))
}

/**
 * Refuses a URL with an encoded NUL in its path or query. Node's parser already rejects an unencoded NUL, and invalid
 * UTF-8 is rejected or replaced when the URL is decoded.
 *
 * @throws {OAuthError} `invalid_request`
 */
export function refuseUnstorableAddress(url: string): void {
  if (url.includes('%00')) throw new OAuthError('invalid_request', 'the request is malformed')
}

/**
 * Refuses a form that contains NUL, before the form is passed to oidc-provider.
 *
 * @throws {OAuthError} `invalid_request`
 */
export function refuseUnstorableForm(body: Buffer): void {
  if (body.includes('%00') || body.includes(0)) {
    throw new OAuthError('invalid_request', 'the body has characters that are not allowed')
  }
}

/**
 * Returns whether the database rejected a value: a text that is invalid in the encoding of the database, a number out
 * of range, or a value that is too long for an index. Such values must be refused when they are read. So if the
 * database rejects a value, a check is missing in this server.
 */
export function isUnstorableForDatabase(error: Error & { code?: unknown }): boolean {
  return /^(22021|22P05|22P02|22003|54000)$/.test(String(error.code))
}

/**
 * Copies a text that will be kept in memory. A part of a text (from `slice` or `split`) keeps the whole text in memory:
 * an id of a few bytes would keep the body of up to 64 kB in which it was sent.
 */
export function copyOf(text: string): string {
  return Buffer.from(text).toString()
}
