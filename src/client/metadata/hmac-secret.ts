/** The length of secrets with which clients sign assertions (`client_secret_jwt`). */
import { newSecret } from '../../platform/crypto.ts'

/**
 * The size of the hash of each HMAC algorithm, in bytes. A key must be at least as long as the hash (RFC 7518 §3.2, OpenID
 * Connect Core §16.19).
 */
const hashBytes: Readonly<Record<string, number | undefined>> = { HS256: 32, HS384: 48, HS512: 64 }

/** Returns whether an algorithm is one of the HMAC algorithms. */
export function isHmac(alg: string | undefined): boolean {
  return alg !== undefined && alg in hashBytes
}

/**
 * Returns the minimum length in bytes of a secret for an algorithm.
 *
 * @param alg undefined if the client may choose the algorithm: the secret must then be long enough for the shortest hash
 */
export function shortestSecret(alg: string | undefined): number {
  return hashBytes[alg ?? 'HS256'] ?? Number.POSITIVE_INFINITY
}

/** Returns whether a secret is long enough for an algorithm. Its UTF-8 bytes count, not its characters. */
export function isLongEnough(secret: string, alg: string | undefined): boolean {
  return Buffer.byteLength(secret) >= shortestSecret(alg)
}

/** Returns a new client secret. For `client_secret_jwt` it is long enough for every HMAC algorithm: 64 characters. */
export function newClientSecret(method: unknown): string {
  return method === 'client_secret_jwt' ? newSecret(48) : newSecret()
}
