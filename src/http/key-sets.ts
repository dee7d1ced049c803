/** Public keys at addresses that others name: fetched through the guarded caller, and remembered for a while. */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import type { Clock } from '../clock.ts'
import type { GuardedCaller } from './outgoing.ts'

export interface KeySets {
  /** Finds the key that a signature names. One that is not in the set may have been added since: it is fetched again. */
  at(uri: string): JWTVerifyGetKey
  /** The set as it was moments ago: for what was removed from it to count soon. */
  latest(uri: string): Promise<JSONWebKeySet>
}

/** Milliseconds a fetched key set is used before it is fetched again. */
const freshFor = 10 * 60_000
/** Milliseconds between two fetches for a key that is not in the set (CA-7: once, and not as often as a caller likes). */
const patience = 30_000

/** Key sets that are remembered; of more, the one fetched longest ago is forgotten. */
const mostSets = 1000

interface KeySet {
  keys: JSONWebKeySet
  find: JWTVerifyGetKey
}

interface Fetched {
  keySet: Promise<KeySet>
  at: number
}

export function createKeySets({ caller, clock }: { caller: GuardedCaller; clock: Clock }): KeySets {
  const fetched = new Map<string, Fetched>()

  /** One fetch at a time for an address: all who wait share it (JO-5). */
  function keySetAt(uri: string, oldest: number): Promise<KeySet> {
    const known = fetched.get(uri)
    if (known !== undefined && known.at >= oldest) return known.keySet
    const keySet = fetchKeySet(uri, caller)
    const entry = { keySet, at: clock.now() }
    fetched.delete(uri)
    fetched.set(uri, entry)
    if (fetched.size > mostSets) fetched.delete(fetched.keys().next().value!)
    keySet.catch(() => fetched.get(uri) === entry && fetched.delete(uri))
    return keySet
  }

  return {
    at: (uri) => async (header, token) => {
      const now = clock.now()
      try {
        return await (await keySetAt(uri, now - freshFor)).find(header, token)
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
        return await (await keySetAt(uri, now - patience)).find(header, token)
      }
    },
    latest: async (uri) => (await keySetAt(uri, clock.now() - patience)).keys,
  }
}

async function fetchKeySet(uri: string, caller: GuardedCaller): Promise<KeySet> {
  const answer = await caller.call({ url: uri, method: 'GET', headers: { accept: 'application/json' } })
  if (answer.status !== 200) throw new Error(`jwks_uri answered ${answer.status}`)
  const keys = JSON.parse(answer.body) as JSONWebKeySet
  return { keys, find: createLocalJWKSet(keys) as JWTVerifyGetKey }
}
