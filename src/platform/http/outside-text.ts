/**
 * Text from outside that can be kept and compared: every value passes here once, where it is read (an address, a form, JSON,
 * the claims of a JWT). PostgreSQL takes neither NUL nor lone surrogates, not even to compare them.
 */
import { OAuthError } from '../oauth-error.ts'

/** Whether this text can be kept: no NUL, and no lone surrogate, which cannot be written as UTF-8. */
export function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}

/** The same of every text in a value of JSON, names of members included. The value must not be too deep to walk through. */
export function holdsOnlyStorable(value: unknown): boolean {
  if (typeof value === 'string') return isStorable(value)
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([name, inner]) => isStorable(name) && holdsOnlyStorable(inner))
}

/**
 * An address with NUL in it, in its path or its query, whoever reads it later. Node's parser lets none pass unencoded, and
 * what is no UTF-8 fails or is replaced where it is decoded.
 *
 * @throws {OAuthError} `invalid_request`
 */
export function refuseUnstorableAddress(url: string): void {
  if (url.includes('%00')) throw new OAuthError('invalid_request', 'the request is malformed')
}

/**
 * A form with NUL in it that somebody else is going to read.
 *
 * @throws {OAuthError} `invalid_request`
 */
export function refuseUnstorableForm(body: Buffer): void {
  if (body.includes('%00') || body.includes(0)) {
    throw new OAuthError('invalid_request', 'the body has characters that are not allowed')
  }
}

/**
 * Whether the database could not take a value: not text in its encoding, not a number in its range, too long for an index.
 * The last line: such values are refused where they are read, and what comes this far is a check that is missing there.
 */
export function isUnstorableForDatabase(error: Error & { code?: unknown }): boolean {
  return /^(22021|22P05|22P02|22003|54000)$/.test(String(error.code))
}
