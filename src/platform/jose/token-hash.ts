/**
 * Computes the hash of a token for an ID token, such as `at_hash` (OpenID Connect Core §3.1.3.6, CIBA Core §10.3.1).
 */
import { createHash } from 'node:crypto'

/**
 * Returns the left half of the SHA-2 hash of a token, base64url. The size of the hash is the number in the name of the
 * signing algorithm, for instance SHA-256 for ES256.
 */
export function tokenHash(token: string, algorithm: string): string {
  const size = /^(?:ES|PS|RS|HS)(256|384|512)$/.exec(algorithm)?.[1] ?? '512'
  const digest = createHash(`sha${size}`).update(token, 'ascii').digest()
  return digest.subarray(0, digest.length / 2).toString('base64url')
}
