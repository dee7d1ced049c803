/**
 * What is stored of a grant that several calls change at the same time: for instance, if two consents of one browser are
 * continued at the same instant. Each of them has read the grant before, and saves it as a whole.
 */
import type { AdapterPayload } from 'oidc-provider'

/** What can be added to a grant. */
const members = ['openid', 'resources', 'rejected', 'rar'] as const

/**
 * Returns what a call has saved, with what other calls have added to the stored grant since the call read it.
 * oidc-provider only adds to a grant: a scope that is taken away again is added to `rejected`.
 */
export function mergedGrant(stored: AdapterPayload | undefined, saved: AdapterPayload): AdapterPayload {
  const both = members.map((name) => [name, union(stored?.[name], saved[name])] as const)
  return { ...saved, ...Object.fromEntries(both.filter(([, value]) => value !== undefined)) }
}

/** Returns the words of two texts, the items of two lists, or the members of two objects, each of them once. */
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
