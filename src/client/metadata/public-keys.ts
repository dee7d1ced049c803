/** Validates a JWK Set that a client registers: public keys only, of supported types, long enough. */
import type { z } from 'zod'
import { isCostlyToVerify, mostKeys, withKnownMembers } from '../../platform/jose/key-members.ts'
import { isPlain } from '../../platform/validation.ts'
import type { PublicJwk } from './client-metadata.ts'

const keyTypes: unknown[] = ['EC', 'RSA', 'OKP']
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

/**
 * A zod refinement: reports private members, unsupported types, and keys that are too short or take too long to verify
 * with.
 */
export function keysProblem(jwks: unknown, context: z.RefinementCtx): void {
  const complain = (message: string) => context.addIssue({ code: 'custom', message })
  const keys = isPlain(jwks) ? jwks.keys : undefined
  if (!Array.isArray(keys) || keys.length === 0) {
    complain('must be a JWK Set: an object with a list "keys" of at least one key')
    return
  }
  if (keys.length > mostKeys) complain(`must contain at most ${mostKeys} keys; it contains ${keys.length}`)
  for (const [index, key] of keys.slice(0, mostKeys).entries()) {
    const which = `must contain public keys only, but key ${index}`
    const member = isPlain(key) ? privateMembers.find((name) => name in key) : undefined
    if (member !== undefined) complain(`${which} has the private member "${member}"`)
    else if (!isPlain(key) || !keyTypes.includes(key.kty)) complain(`${which} has an unsupported type`)
    else if (isCostlyToVerify(key))
      complain(`must contain RSA keys of at most 8192 bits with an exponent of at most 32 bits, unlike key ${index}`)
    else if (isWeak(key)) complain(`must contain RSA keys of at least 2048 bits, but key ${index} is shorter (FI-6)`)
  }
}

/** Returns the keys without members that are unknown to this server. */
export function onlyKnownMembers({ keys }: { keys: PublicJwk[] }): { keys: PublicJwk[] } {
  return { keys: keys.map((key) => withKnownMembers(key) as PublicJwk) }
}

/** Whether an RSA key is too short. Elliptic curves need no check: every supported curve is strong enough. */
function isWeak({ kty, n }: Record<string, unknown>): boolean {
  return kty === 'RSA' && (typeof n !== 'string' || Buffer.from(n, 'base64url').length < 2048 / 8)
}
