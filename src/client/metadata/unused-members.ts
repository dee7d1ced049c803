/** Finds members of an operator's client that the server does not use, so that misspelt names are noticed. */
import { whyUnused } from '../../platform/jose/key-members.ts'
import { didYouMean, isPlain, nearest } from '../../platform/validation.ts'
import { schemaFor } from './metadata-schema.ts'

export interface UnusedMember {
  name: string
  /**
   * The text of the message after the name. It says that the member is not used, and which member was probably meant.
   */
  problem: string
}

/**
 * Returns the members of client metadata that the server does not use: those that it does not know, and keys that it
 * cannot use. Use this function only for metadata from the operator, and not from anonymous callers. For a long list of
 * unknown names, it takes a long time to find which names were meant.
 *
 * @example
 * unusedMembers({ backchannel_requires_passkey: true })
 * // [{ name: 'backchannel_requires_passkey', problem: 'is not used; did you mean backchannel_require_passkey?' }]
 */
export function unusedMembers(metadata: Record<string, unknown>): UnusedMember[] {
  const known = Object.keys(schemaFor({ development: true }).shape)
  const unknown = Object.keys(metadata)
    .filter((name) => !known.includes(name) && metadata[name] !== null && metadata[name] !== undefined)
    .map((name) => ({ name, problem: `is not used${didYouMean(nearest(name, known, mostSlipsIn(name)))}` }))
  return [...unknown, ...unusedKeys(metadata.jwks)]
}

/**
 * Returns how many letters may be wrong in a misspelt name. The number is at most three, because many names in the
 * standards are similar and have different meanings.
 */
function mostSlipsIn(name: string): number {
  return Math.min(3, Math.max(1, Math.floor(name.length / 4)))
}

function unusedKeys(jwks: unknown): UnusedMember[] {
  const keys = isPlain(jwks) && Array.isArray(jwks.keys) ? jwks.keys : []
  return keys.flatMap((key: unknown, index) => {
    const reason = isPlain(key) ? whyUnused(key) : undefined
    return reason === undefined ? [] : [{ name: `jwks.keys[${index}]`, problem: `is not used: ${reason}` }]
  })
}
