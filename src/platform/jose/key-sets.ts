/** Fetches public keys from URLs that others have chosen, through the guarded caller, and caches them for a while. */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import type { Clock } from '../clock.ts'
import { type fetchThrough, toResponse } from '../http/fetch.ts'
import { createFetches, type Fetches } from '../http/fetches.ts'
import type { LoadShedding, Slot } from '../http/load-shedding.ts'
import type { GuardedCaller } from '../http/outgoing.ts'
import { isPlain } from '../validation.ts'
import { isCostlyToVerify, isOfKnownType, mostKeys, withKnownMembers } from './key-members.ts'

export interface KeySets {
  /**
   * Returns a function that finds the key of a signature. If the set at `uri` does not contain the key, the set is fetched
   * again.
   */
  at(uri: string, slot: Slot | undefined): JWTVerifyGetKey
  /** Resolves to a set that was fetched at most `refetchPauseMs` ago, so that a removed key soon stops working. */
  latest(uri: string, slot: Slot | undefined): Promise<JSONWebKeySet>
  /**
   * Returns the cached set, or undefined if no fresh set is cached. In that case the caller of this function fetches the
   * set.
   *
   * @throws the error of the last fetch, if the pause after it has not ended
   */
  known(uri: string): JSONWebKeySet | undefined
  /** Returns the number of fetches under way, and of callers that wait for a fetch. */
  count: Fetches<unknown>['count']
}

/** Milliseconds for which a fetched key set is used before it is fetched again. */
const freshForMs = 10 * 60_000
/**
 * If a set does not contain a requested key, the set is fetched again, unless it was fetched less than this many
 * milliseconds ago.
 */
const refetchPauseMs = 30_000

/** Upper limit for the cached key sets. Beyond this limit, the oldest is dropped. */
const mostSets = 1000

interface KeySet {
  keys: JSONWebKeySet
  find: JWTVerifyGetKey
  /** When the fetch of this set began, in milliseconds since 1970. */
  at: number
}

export interface KeySetNeeds {
  caller: GuardedCaller
  releaseSlotWhile: LoadShedding['releaseSlotWhile']
  clock: Clock
}

export function createKeySets({ caller, releaseSlotWhile, clock }: KeySetNeeds): KeySets {
  const sets = new Map<string, KeySet>()
  const fetches = createFetches({ load, releaseSlotWhile, clock })

  /** Fetches and caches a set. The previous set stays in use during the fetch, and if the fetch fails. */
  async function load(uri: string): Promise<KeySet> {
    const at = clock.now()
    const keySet = { ...(await fetchKeySet(uri, caller)), at }
    sets.delete(uri)
    sets.set(uri, keySet)
    if (sets.size > mostSets) sets.delete(sets.keys().next().value!)
    return keySet
  }

  function keySetAt(uri: string, oldest: number, slot: Slot | undefined): Promise<KeySet> | KeySet {
    const keySet = sets.get(uri)
    return keySet !== undefined && keySet.at >= oldest ? keySet : fetches.get(uri, slot)
  }

  return {
    at: (uri, slot) => async (header, token) => {
      const now = clock.now()
      try {
        return await (await keySetAt(uri, now - freshForMs, slot)).find(header, token)
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
        return await (await keySetAt(uri, now - refetchPauseMs, slot)).find(header, token)
      }
    },
    latest: async (uri, slot) => (await keySetAt(uri, clock.now() - refetchPauseMs, slot)).keys,
    known(uri) {
      const keySet = sets.get(uri)
      if (keySet !== undefined && keySet.at >= clock.now() - freshForMs) return keySet.keys
      fetches.throwIfPaused(uri)
      return undefined
    },
    count: fetches.count,
  }
}

/**
 * Returns a `fetch` for oidc-provider, which mostly fetches key sets of clients. If a key set is cached, it is not fetched
 * again.
 */
export function knownKeysOr(
  keySets: Pick<KeySets, 'known'>,
  elsewhere: ReturnType<typeof fetchThrough>,
): typeof elsewhere {
  return async (url, options = {}) => {
    const keys = options.method === 'POST' ? undefined : keySets.known(String(url))
    return keys === undefined ? elsewhere(url, options) : toResponse(200, {}, JSON.stringify(keys))
  }
}

async function fetchKeySet(uri: string, caller: GuardedCaller): Promise<Omit<KeySet, 'at'>> {
  const answer = await caller.call({ url: uri, method: 'GET', headers: { accept: 'application/json' } })
  if (answer.status !== 200) throw new Error(`jwks_uri answered ${answer.status}`)
  const keys = readKeys(JSON.parse(answer.body))
  return { keys, find: createLocalJWKSet(keys) as JWTVerifyGetKey }
}

function readKeys(set: unknown): JSONWebKeySet {
  const keys: unknown = (set as { keys?: unknown } | null)?.keys
  if (!Array.isArray(keys) || keys.length > mostKeys)
    throw new Error(`jwks_uri has no list of at most ${mostKeys} keys`)
  const usable = keys.filter(isPlain).filter((key) => isOfKnownType(key) && !isCostlyToVerify(key))
  return { keys: usable.map(withKnownMembers) as JSONWebKeySet['keys'] }
}
