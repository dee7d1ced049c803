/**
 * Reduces a client's key set to the members that are needed. Other members are not kept, because many key sets are
 * cached, including those of untrusted clients. Parsed JSON with many small values takes a hundred times the memory of
 * its text.
 */

/**
 * The members of public keys whose values are texts: RFC 7517 §4, RFC 7518 §6, RFC 8037 §2. `key_ops` is read
 * (`whyUnused`), but not kept: libraries refuse a public key whose `key_ops` also contains `sign`.
 */
const texts = ['kty', 'use', 'alg', 'kid', 'x5u', 'x5t', 'x5t#S256', 'crv', 'x', 'y', 'n', 'e']
const lists = ['x5c']

/** The private members of keys of all types, including `AKP` (ML-DSA), whose keys this server does not use. */
export const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv']

/**
 * Returns the name of a private member of a key, or undefined if it has none. A member that is null, an empty list or
 * an empty text does not count: libraries write these for an absent value.
 */
export function privateMemberOf(key: object): string | undefined {
  const members = new Map<string, unknown>(Object.entries(key))
  return privateMembers.find((name) => {
    const value = members.get(name)
    return value !== undefined && value !== null && value !== '' && !(Array.isArray(value) && value.length === 0)
  })
}

/**
 * The signature algorithms that the `alg` of a key may contain. The registration of a client may allow only some of
 * them.
 */
const signing = /^((ES|PS|RS)(256|384|512)|EdDSA|Ed25519)$/

/** The curves on which this server verifies signatures (RFC 7518 §3.4, RFC 8037 §3.1). */
const curvesOf = new Map<unknown, readonly string[]>([
  ['EC', ['P-256', 'P-384', 'P-521']],
  ['OKP', ['Ed25519']],
])

/** The members that a key must have, by its `kty`. */
const materialOf = new Map<unknown, readonly string[]>([
  ['EC', ['crv', 'x', 'y']],
  ['OKP', ['crv', 'x']],
  ['RSA', ['n', 'e']],
])

/**
 * Returns why a key is not used, or undefined if it is used. Keys of unknown types are ignored, and so are keys that
 * lack a member or have an invalid one (RFC 7517 §5). For example, a client that also uses other servers may have
 * post-quantum keys. If such a key were not removed, oidc-provider would refuse the whole set. Keys for encryption are
 * ignored too.
 */
export function whyUnused(key: Record<string, unknown>): string | undefined {
  const material = materialOf.get(key.kty)
  if (material === undefined) return 'its type is neither EC nor RSA nor OKP'
  const missing = material.find((name) => !isFilled(key[name]))
  if (missing !== undefined) return `it has no text "${missing}"`
  const wrong = ['alg', 'kid', 'use'].find((name) => typeof (key[name] ?? '') !== 'string')
  return wrong === undefined ? whyNotForSignatures(key) : `its "${wrong}" is not a text`
}

/**
 * Returns why a key cannot be used to verify signatures. Returns undefined if none of its members prevents this use.
 */
function whyNotForSignatures(key: Record<string, unknown>): string | undefined {
  const { kty, crv, use, alg, key_ops: operations } = key
  if (isFilled(use) && use !== 'sig') return 'its "use" is not "sig", and this server only verifies signatures'
  if (isFilled(alg) && !signing.test(String(alg))) return 'its "alg" is not one for signatures that is supported'
  if (Array.isArray(operations) && operations.length > 0 && !operations.includes('verify')) {
    return 'its "key_ops" does not contain "verify"'
  }
  const curves = curvesOf.get(kty)
  return curves === undefined || curves.includes(String(crv)) ? undefined : 'its curve is not one of those supported'
}

/** Returns whether a key can verify signatures: this server supports its type, and it has the members of this type. */
export function isComplete(key: Record<string, unknown>): boolean {
  return whyUnused(key) === undefined
}

/** Upper limit for the keys of a set. */
export const mostKeys = 100
/** Upper limit for the texts in a member that is a list (`x5c`). A certificate chain is shorter. */
const mostTexts = 10

/**
 * Returns the key with known members only. A known member is also left out if its value is neither a text nor a short
 * list of texts. An empty text is left out too, because oidc-provider would refuse the whole set.
 */
export function withKnownMembers(key: Record<string, unknown>): Record<string, unknown> {
  const known = [...texts.filter((name) => isFilled(key[name])), ...lists.filter((name) => isShortList(key[name]))]
  return Object.fromEntries(known.map((name) => [name, key[name]]))
}

/**
 * Returns whether a verification with this key takes a hundred times as long as with other keys: an RSA key with an
 * exponent of more than 32 bits, or a modulus of more than 8192 bits. Such keys are not used in practice. If a client
 * registered such a key, any caller could make the server spend time on forged signatures.
 */
export function isCostlyToVerify({ kty, n, e }: Record<string, unknown>): boolean {
  return kty === 'RSA' && (bytesOf(n) > 8192 / 8 || bytesOf(e) > 32 / 8)
}

function bytesOf(text: unknown): number {
  return typeof text === 'string' ? Buffer.from(text, 'base64url').length : 0
}

function isFilled(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function isShortList(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.length <= mostTexts && value.every(isFilled)
}
