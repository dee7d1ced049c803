/**
 * Reduces a client's key set to the members that are needed. Many key sets are cached, including those of unknown clients.
 * JSON with many small values needs a hundred times its size in memory when it is parsed.
 */

/** Members of public keys: RFC 7517 §4, RFC 7518 §6, RFC 8037 §2. */
const members = ['kty', 'use', 'key_ops', 'alg', 'kid', 'x5u', 'x5c', 'x5t', 'x5t#S256', 'crv', 'x', 'y', 'n', 'e']

/** The members that a key of each kind must have. */
const materialOf = new Map<unknown, readonly string[]>([
  ['EC', ['crv', 'x', 'y']],
  ['OKP', ['crv', 'x']],
  ['RSA', ['n', 'e']],
])

/**
 * Returns whether the type of a key is one that this server can verify signatures with. Keys of other types in a set are
 * ignored (RFC 7517 §5), for example the post-quantum keys of a client that also uses other servers.
 */
export function isOfKnownType({ kty }: Record<string, unknown>): boolean {
  return materialOf.has(kty)
}

/**
 * Returns whether a key is of a kind that is used here, and has the members of this kind. Other keys of a set are ignored
 * (RFC 7517 §5): with one of them, oidc-provider would refuse the whole set.
 */
export function isComplete(key: Record<string, unknown>): boolean {
  const material = materialOf.get(key.kty)
  return (
    material?.every((name) => typeof key[name] === 'string') === true &&
    ['alg', 'kid', 'use'].every((name) => key[name] === undefined || typeof key[name] === 'string')
  )
}

/** Upper limit for the keys of a set. */
export const mostKeys = 100
/** Upper limit for the texts in a member that is a list. A certificate chain is shorter. */
const mostTexts = 10

/** Returns the key without its unknown members, and without members that are not texts or short lists of texts. */
export function withKnownMembers(key: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(members.filter((name) => isSmall(key[name])).map((name) => [name, key[name]]))
}

/**
 * Returns whether a verification with this key takes a hundred times as long as with other keys: an RSA key with an
 * exponent of more than 32 bits, or a modulus of more than 8192 bits. Such keys are not used in practice. If a client
 * registered such a key, any caller could make the server spend time on invented signatures.
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
