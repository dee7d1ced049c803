/**
 * Text from outside that can be stored and compared. Every value is checked once, where it is read (an address, a form, JSON,
 * the claims of a JWT). PostgreSQL accepts neither NUL nor lone surrogates, not even in comparisons.
 */
import { OAuthError } from '../oauth-error.ts'

/** Whether this text can be stored: no NUL, and no lone surrogate, which cannot be written as UTF-8. */
export function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}

/** Checks every text in a JSON value, including member names. The value must not be too deep to traverse. */
export function holdsOnlyStorable(value: unknown): boolean {
  if (typeof value === 'string') return isStorable(value)
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([name, inner]) => isStorable(name) && holdsOnlyStorable(inner))
}

/**
 * Refuses an address with NUL in its path or query, whoever reads it later. Node's parser accepts none unencoded, and invalid
 * UTF-8 fails or is replaced where it is decoded.
 *
 * @throws {OAuthError} `invalid_request`
 */
export function refuseUnstorableAddress(url: string): void {
  if (url.includes('%00')) throw new OAuthError('invalid_request', 'the request is malformed')
}

/**
 * Refuses a form with NUL in it that other code is going to read.
 *
 * @throws {OAuthError} `invalid_request`
 */
export function refuseUnstorableForm(body: Buffer): void {
  if (body.includes('%00') || body.includes(0)) {
    throw new OAuthError('invalid_request', 'the body has characters that are not allowed')
  }
}

/**
 * Whether the database rejected a value: text not in its encoding, a number out of range, a value too long for an index. The
 * last check: such values should be refused where they are read, so one that gets here shows a missing check.
 */
export function isUnstorableForDatabase(error: Error & { code?: unknown }): boolean {
  return /^(22021|22P05|22P02|22003|54000)$/.test(String(error.code))
}
