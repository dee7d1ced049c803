/** `client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1). */

import { fingerprint, newSecret, sameFingerprint, sameSecret, type Vault } from '../../platform/crypto.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Client, ClientCredentials } from '../client.ts'
import type { Claim } from './claim.ts'

/** Answers what is wrong, or nothing. */
export type VerifySecret = (secret: string, client: Client) => string | undefined

/**
 * A client calls again and again with the one secret it has. What it has proven itself with is known again by a hash
 * that takes a fraction of the time, and is worth nothing outside of this process: it is salted with what nobody else
 * knows, and gone with the client as it is known now.
 */
export function createSecretVerification(vault: Vault): VerifySecret {
  const proven = new WeakMap<Client, string>()
  const salt = newSecret()

  return (secret, client) => {
    const shown = fingerprint(salt + secret)
    const before = proven.get(client)
    if (before !== undefined && sameFingerprint(shown, before)) return undefined
    if (!sameSecret(vault.keyedHash(secret), client.secretHash ?? '')) return 'wrong client secret'
    proven.set(client, shown)
    return undefined
  }
}

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

export function readPost({ form }: ClientCredentials): Claim | undefined {
  const proof = form.get('client_secret')
  if (proof === undefined) return undefined
  const clientId = form.get('client_id')
  if (clientId === undefined) throw new OAuthError('invalid_client', 'client_id is missing')
  return { clientId, couldBe: ['client_secret_post'], proof }
}

/** Both halves of the Basic credentials are form-encoded before they are joined (CA-3). */
function formDecode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    throw unreadable()
  }
}

function unreadable(): OAuthError {
  return new OAuthError('invalid_client', 'the Authorization header is not readable as Basic credentials', {
    headers: { 'WWW-Authenticate': 'Basic realm="doorbell", charset="UTF-8"' },
  })
}
