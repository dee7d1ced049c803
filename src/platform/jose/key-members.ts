/**
 * What is kept of a key set that a client names. Strangers may be clients, and many sets are remembered: text becomes a
 * hundred times as large once it is read as JSON, if it holds nothing but small things.
 */

/** Of a public key: RFC 7517 §4, RFC 7518 §6, RFC 8037 §2. */
const members = ['kty', 'use', 'key_ops', 'alg', 'kid', 'x5u', 'x5c', 'x5t', 'x5t#S256', 'crv', 'x', 'y', 'n', 'e']

/** Keys of a set. */
export const mostKeys = 100
/** Texts in a member that is a list: a chain of certificates is shorter. */
const mostTexts = 10

/** The key with the members that keys have, as far as they are texts or short lists of texts. */
export function withKnownMembers(key: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(members.filter((name) => isSmall(key[name])).map((name) => [name, key[name]]))
}

/**
 * Whether to verify with a key takes as long as a hundred others: an RSA key with an exponent beyond 32 bits, or a modulus
 * beyond 8192. Nobody has one; whoever names one has us work for signatures that anybody can make up.
 */
export function isCostly({ kty, n, e }: Record<string, unknown>): boolean {
  return kty === 'RSA' && (bytesOf(n) > 8192 / 8 || bytesOf(e) > 32 / 8)
}

function bytesOf(text: unknown): number {
  return typeof text === 'string' ? Buffer.from(text, 'base64url').length : 0
}

function isSmall(value: unknown): boolean {
  if (Array.isArray(value)) return value.length <= mostTexts && value.every((each) => typeof each === 'string')
  return typeof value === 'string'
}
