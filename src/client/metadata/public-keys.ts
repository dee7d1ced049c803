/**
 * Validates a JWK Set. It must contain public keys only, and these must be long enough. Keys that cannot be used are
 * ignored.
 */
import type { z } from 'zod'
import {
  isComplete,
  isCostlyToVerify,
  mostKeys,
  privateMemberOf,
  withKnownMembers,
} from '../../platform/jose/key-members.ts'
import { isPlain } from '../../platform/validation.ts'

/** The end of the error message for a key set in which no key can be used. The name of the member comes before it. */
export const noUsableKey =
  'must contain a key of type EC, RSA or OKP that has all members of its type and can verify signatures'

/**
 * A zod refinement: reports private members of keys of any type, RSA keys that are too short, and RSA keys that are so
 * long that verification takes too much time. A set without a usable key is valid, because not every client needs keys.
 */
export function keysProblem(jwks: unknown, context: z.RefinementCtx): void {
  const complain = (message: string) => context.addIssue({ code: 'custom', message })
  const keys = isPlain(jwks) ? jwks.keys : undefined
  if (!Array.isArray(keys)) {
    complain('must be a JWK Set: an object with a list "keys"')
    return
  }
  const problems = keys.slice(0, mostKeys).flatMap((key, index) => problemOf(key, index) ?? [])
  if (keys.length > mostKeys) problems.unshift(`must contain at most ${mostKeys} keys; it contains ${keys.length}`)
  problems.forEach(complain)
}

function problemOf(key: unknown, index: number): string | undefined {
  const which = `must contain public keys only, but key ${index}`
  if (!isPlain(key)) return `${which} is not an object`
  const member = privateMemberOf(key)
  if (member !== undefined) return `${which} has the private member "${member}"`
  if (!isComplete(key)) return
  if (isCostlyToVerify(key)) {
    return `must contain RSA keys of at most 8192 bits with an exponent of at most 32 bits, unlike key ${index}`
  }
  return isWeak(key) ? `must contain RSA keys of at least 2048 bits, but key ${index} is shorter (FI-6)` : undefined
}

/** Returns the keys that can be used, without members that are unknown to this server. */
export function onlyKnownKeys<Key extends Record<string, unknown>>({ keys }: { keys: Key[] }): { keys: Key[] } {
  return { keys: keys.filter(isComplete).map((key) => withKnownMembers(key) as Key) }
}

/** Whether an RSA key is too short. Elliptic curves need no check: every supported curve is strong enough. */
function isWeak({ kty, n }: Record<string, unknown>): boolean {
  return kty === 'RSA' && Buffer.from(String(n), 'base64url').length < 2048 / 8
}
