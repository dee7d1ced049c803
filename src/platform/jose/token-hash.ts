/** The hash by which an ID token vouches for another token (OpenID Connect Core §3.1.3.6, CIBA Core §10.3.1). */
import { createHash } from 'node:crypto'

/** SHA-2 of the size in the signing algorithm's name; the left half, base64url (M13). */
export function tokenHash(token: string, algorithm: string): string {
  const size = /^(?:ES|PS|RS|HS)(256|384|512)$/.exec(algorithm)?.[1] ?? '512'
  const digest = createHash(`sha${size}`).update(token, 'ascii').digest()
  return digest.subarray(0, digest.length / 2).toString('base64url')
}
