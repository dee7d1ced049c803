/** Validates a JWK Set that a client registers: public keys only, long enough. Keys of unknown types are ignored. */
import type { z } from 'zod'
import { isCostlyToVerify, isOfKnownType, mostKeys, withKnownMembers } from '../../platform/jose/key-members.ts'
import { isPlain } from '../../platform/validation.ts'
import type { PublicJwk } from './client-metadata.ts'

/** The private members of every type, also of `AKP` (ML-DSA), which is otherwise unknown here. */
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv']

/**
 * A zod refinement: reports private members of keys of any type, sets without a key of a known type, and keys that are
 * too short or take too long to verify with.
 */
export function keysProblem(jwks: unknown, context: z.RefinementCtx): void {
  const complain = (message: string) => context.addIssue({ code: 'custom', message })
  const keys = isPlain(jwks) ? jwks.keys : undefined
  if (!Array.isArray(keys) || keys.length === 0) {
    complain('must be a JWK Set: an object with a list "keys" of at least one key')
    return
  }
  const problems = keys.slice(0, mostKeys).flatMap((key, index) => problemOf(key, index) ?? [])
  if (keys.length > mostKeys) problems.unshift(`must contain at most ${mostKeys} keys; it contains ${keys.length}`)
  if (problems.length === 0 && !keys.some(isOfKnownType)) problems.push('must contain a key of type EC, RSA or OKP')
  problems.forEach(complain)
}

function problemOf(key: unknown, index: number): string | undefined {
  const which = `must contain public keys only, but key ${index}`
  if (!isPlain(key)) return `${which} is not an object`
  const member = privateMembers.find((name) => name in key)
  if (member !== undefined) return `${which} has the private member "${member}"`
  if (isCostlyToVerify(key)) {
    return `must contain RSA keys of at most 8192 bits with an exponent of at most 32 bits, unlike key ${index}`
  }
  return isWeak(key) ? `must contain RSA keys of at least 2048 bits, but key ${index} is shorter (FI-6)` : undefined
}

/** Returns the keys of known types, without members that are unknown to this server. */
export function onlyKnownKeys({ keys }: { keys: PublicJwk[] }): { keys: PublicJwk[] } {
  return { keys: keys.filter(isOfKnownType).map((key) => withKnownMembers(key) as PublicJwk) }
}

/** Whether an RSA key is too short. Elliptic curves need no check: every supported curve is strong enough. */
function isWeak({ kty, n }: Record<string, unknown>): boolean {
  return kty === 'RSA' && (typeof n !== 'string' || Buffer.from(n, 'base64url').length < 2048 / 8)
}
