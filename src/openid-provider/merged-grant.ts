/**
 * Merges the changes that simultaneous calls make to one grant, for instance if a user consents in two tabs of a
 * browser. Each call reads the grant and later saves it as a whole, so without a merge one call would overwrite the
 * changes of the other.
 */
import type { AdapterPayload } from 'oidc-provider'

/** The members of a grant that a call can add to. */
const members = ['openid', 'resources', 'rejected', 'rar'] as const

/**
 * Returns the grant as this call saves it, together with everything that other calls have added to the stored grant
 * since this call read it. A union is enough, because oidc-provider removes nothing from a grant. A scope that the user
 * rejects is added to `rejected`.
 */
export function mergedGrant(stored: AdapterPayload | undefined, saved: AdapterPayload): AdapterPayload {
  const both = members.map((name) => [name, union(stored?.[name], saved[name])] as const)
  return { ...saved, ...Object.fromEntries(both.filter(([, value]) => value !== undefined)) }
}

/**
 * Returns the union of two values: of the words of two texts, the items of two lists, or the members of two objects.
 */
function union(one: unknown, other: unknown): unknown {
  if (one === undefined || other === undefined) return one ?? other
  if (typeof one === 'string') return [...new Set([...one.split(' '), ...String(other).split(' ')])].join(' ')
  if (Array.isArray(one)) {
    const known = new Set(one.map((item) => JSON.stringify(item)))
    return [...one, ...(other as unknown[]).filter((item) => !known.has(JSON.stringify(item)))]
  }
  const [mine, theirs] = [one, other] as Record<string, unknown>[]
  const names = new Set([...Object.keys(mine!), ...Object.keys(theirs!)])
  return Object.fromEntries([...names].map((name) => [name, union(mine![name], theirs![name])]))
}
