/**
 * Reduces a key set that a client names to what is needed. Many sets are cached, also those of unknown clients, and JSON of
 * many small values takes a hundred times its size once parsed.
 */

/** Members of public keys: RFC 7517 §4, RFC 7518 §6, RFC 8037 §2. */
const members = ['kty', 'use', 'key_ops', 'alg', 'kid', 'x5u', 'x5c', 'x5t', 'x5t#S256', 'crv', 'x', 'y', 'n', 'e']

/** Most keys of a set. */
export const mostKeys = 100
/** Most texts in a member that is a list: a certificate chain is shorter. */
const mostTexts = 10

/** Returns the key with known members only, if they are texts or short lists of texts. */
export function withKnownMembers(key: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(members.filter((name) => isSmall(key[name])).map((name) => [name, key[name]]))
}

/**
 * Whether verifying with a key takes as long as with a hundred others: an RSA key with an exponent beyond 32 bits, or a
 * modulus beyond 8192. Such keys are not used in practice; a client could name one to make the server work for signatures
 * that anybody can invent.
 */
export function isCostlyToVerify({ kty, n, e }: Record<string, unknown>): boolean {
  return kty === 'RSA' && (bytesOf(n) > 8192 / 8 || bytesOf(e) > 32 / 8)
}

function bytesOf(text: unknown): number {
  return typeof text === 'string' ? Buffer.from(text, 'base64url').length : 0
}

function isSmall(value: unknown): boolean {
  if (Array.isArray(value)) return value.length <= mostTexts && value.every((each) => typeof each === 'string')
  return typeof value === 'string'
}
