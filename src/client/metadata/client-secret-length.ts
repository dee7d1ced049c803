/** How long client secrets have to be. A secret for `client_secret_jwt` is the key of an HMAC. */
import { newSecret } from '../../platform/crypto.ts'

const shortestHash = 32
/** The length of the hash of each algorithm, in bytes. The key of an HMAC must be at least as long (RFC 7518 §3.2). */
const hashLength = new Map<unknown, number>([
  ['HS256', shortestHash],
  ['HS384', 48],
  ['HS512', 64],
])

/**
 * Returns the shortest length of a secret for `client_secret_jwt`, in characters. If the client registers no algorithm,
 * this is the length for HS256.
 *
 * @param algorithm as the client sent it: any JSON value
 */
export function leastSecretLength(algorithm: unknown): number {
  return hashLength.get(algorithm) ?? shortestHash
}

/** Returns a random client secret. For `client_secret_jwt`, it is long enough for every algorithm. */
export function newClientSecret(authenticationMethod: unknown): string {
  return authenticationMethod === 'client_secret_jwt' ? newSecret(48) : newSecret()
}

/**
 * Replaces a secret that is not available in clear text, for rules that check whether a client has a secret that is
 * long enough.
 */
export const unavailableSecret = 'x'.repeat(64)
