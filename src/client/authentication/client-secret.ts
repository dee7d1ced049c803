/** `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1). */

import { timingSafeEqual } from 'node:crypto'
import { fingerprint, newSecret, sameSecret, type Vault } from '../../platform/crypto.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Client, ClientCredentials } from '../client.ts'
import type { Claim } from './claim.ts'

/** Returns what is wrong with the secret, or undefined if it is right. */
export type VerifySecret = (secret: string, client: Client) => string | undefined

/**
 * Returns the function that verifies client secrets. A client sends the same secret with each call. After the first
 * verification, the function only compares a hash that is faster to compute. This hash is useless outside of this
 * process, because its salt is random and kept in memory only. The hash is removed together with the cached client.
 */
export function createSecretVerification(vault: Vault): VerifySecret {
  const proven = new WeakMap<Client, Buffer>()
  const salt = newSecret()

  return (secret, client) => {
    const shown = Buffer.from(fingerprint(salt + secret))
    const before = proven.get(client)
    if (before !== undefined && timingSafeEqual(shown, before)) return undefined
    if (secret === '') return 'the client secret is empty'
    if (!sameSecret(vault.keyedHash(secret), client.secretHash ?? '')) return 'wrong client secret'
    proven.set(client, shown)
    return undefined
  }
}

/**
 * Returns the credentials in the `Authorization` header, or undefined if there is no such header. @throws {OAuthError}
 */
export function readBasic({ authorization }: ClientCredentials): Claim | undefined {
  if (authorization === undefined) return undefined
  const encoded = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(authorization)?.[1]
  const decoded = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString('utf8')
  const colon = decoded.indexOf(':')
  if (colon < 1) throw unreadable()
  return {
    clientId: formDecode(decoded.slice(0, colon)),
    couldBe: ['client_secret_basic'],
    proof: formDecode(decoded.slice(colon + 1)),
  }
}

/** Returns the credentials in the form, or undefined if there are none. @throws {OAuthError} */
export function readPost({ form }: ClientCredentials): Claim | undefined {
  const proof = form.get('client_secret')
  if (proof === undefined) return undefined
  const clientId = form.get('client_id')
  if (clientId === undefined) throw new OAuthError('invalid_client', 'client_id is missing')
  return { clientId, couldBe: ['client_secret_post'], proof }
}

/**
 * Decodes the client id or the secret. A client form-encodes each of them before it joins them with a colon (RFC 6749
 * §2.3.1).
 */
function formDecode(text: string): string {
  // Most client ids and secrets contain no encoded characters, so they need no decoding.
  if (!/[%+]/.test(text)) return text
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    throw unreadable()
  }
}

function unreadable(): OAuthError {
  return new OAuthError('invalid_client', 'the Authorization header is not readable as Basic credentials')
}
