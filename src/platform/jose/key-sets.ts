/**
 * Fetches the public keys of clients and of issuers from their `jwks_uri`, through `outgoing.ts`, and caches them for a
 * while.
 */
import { errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { type Clock, steadyTime } from '../clock.ts'
import { type fetchThrough, toResponse } from '../http/fetch.ts'
import { createFetches, type Fetches } from '../http/fetches.ts'
import type { LoadShedding, Slot } from '../http/load-shedding.ts'
import type { GuardedCaller } from '../http/outgoing.ts'
import { Overloaded, Unavailable } from '../http/unavailable.ts'
import { isPlain } from '../validation.ts'
import { createWeighedCache } from '../weighed-cache.ts'
import { findVerifyingKey, keysIn, namesKey } from './find-key.ts'
import { isComplete, isCostlyToVerify, mostKeys, withKnownMembers } from './key-members.ts'

/** Thrown if a key set cannot be fetched now, so that a signature cannot be verified. */
export class KeysUnavailable extends Unavailable {
  override readonly name = 'KeysUnavailable'
  override readonly description =
    'the keys with which a signature must be verified cannot be fetched now, please try again'
  override readonly retryAfterSeconds: number

  constructor(cause: unknown, pauseMs: number) {
    super(`a key set cannot be fetched: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    this.retryAfterSeconds = Math.max(1, Math.ceil(pauseMs / 1000))
  }
}

export interface KeySets {
  /**
   * Returns a function that finds the key of a signature. If the cached set of `uri` does not contain the key, the set
   * is fetched again. If the signature has no `kid`, the set is also fetched again if none of its keys verifies the
   * signature.
   *
   * If the set cannot be fetched, a set that was fetched at most `keptInOutageMs` ago is used. If there is no such set,
   * or the set lacks the key, the function throws `KeysUnavailable`, or `Overloaded` if too many other fetches are
   * under way.
   */
  at(uri: string, slot: Slot | undefined): JWTVerifyGetKey
  /**
   * Resolves to a set that was fetched at most `refetchPauseMs` ago, so that a removed key soon stops working. If the
   * set cannot be fetched, or too many other fetches are under way, resolves to a set that was fetched at most
   * `keptInOutageMs` ago.
   *
   * @throws {KeysUnavailable | Overloaded} if there is no such set
   */
  latest(uri: string, slot: Slot | undefined): Promise<JSONWebKeySet>
  /**
   * Returns the cached set if it is fresh (`freshForMs`). In the pause after a failed fetch, also returns a set that
   * was fetched at most `keptInOutageMs` ago. Returns undefined if the caller of this function should fetch the set.
   *
   * @throws the error of the last fetch, if there is no such set and the pause after the fetch has not ended
   */
  known(uri: string): JSONWebKeySet | undefined
  /** Returns the number of fetches under way, and of callers that wait for a fetch. */
  count: Fetches<unknown>['count']
}

/** Milliseconds for which a fetched key set is used before it is fetched again. */
const freshForMs = 10 * 60_000
/**
 * A set that does not contain a requested key is fetched again only if its last fetch is more than this many
 * milliseconds ago.
 */
const refetchPauseMs = 30_000

/** About how many bytes the cached key sets may take. Beyond this limit, the oldest are dropped. */
const mostBytes = 32 * 1024 * 1024

interface KeySet {
  keys: JSONWebKeySet
  find: ReturnType<typeof keysIn>
  /** When the fetch of this set began, in the steady time of this process. */
  at: number
}

export interface KeySetNeeds {
  caller: GuardedCaller
  releaseSlotWhile: LoadShedding['releaseSlotWhile']
  /** Milliseconds for which a set that cannot be fetched again stays in use, counted from its last successful fetch. */
  keptInOutageMs: number
  clock: Clock
}

export function createKeySets({ caller, releaseSlotWhile, keptInOutageMs, clock }: KeySetNeeds): KeySets {
  const sets = createWeighedCache<KeySet>(mostBytes)
  const fetches = createFetches({ load, releaseSlotWhile, clock })

  /** Fetches and caches a set. The previous set stays in use during the fetch, and if the fetch fails. */
  async function load(uri: string): Promise<KeySet> {
    const at = steadyTime(clock)
    const keySet = { ...(await fetchKeySet(uri, caller)), at }
    sets.set(uri, keySet, bytesOf(uri, keySet.keys))
    return keySet
  }

  /** @throws {KeysUnavailable | Overloaded} if the cached set is older than `oldest`, and the set cannot be fetched */
  async function keySetSince(oldest: number, uri: string, slot: Slot | undefined): Promise<KeySet> {
    const keySet = sets.get(uri)
    if (keySet !== undefined && keySet.at >= oldest) return keySet
    try {
      return await fetches.get(uri, slot)
    } catch (error) {
      if (error instanceof Overloaded) throw error
      throw new KeysUnavailable(error, fetches.pauseLeft(uri))
    }
  }

  /**
   * Returns the cached set if it was fetched at most `keptInOutageMs` ago, for use while it cannot be fetched again.
   */
  function keptInOutage(uri: string): KeySet | undefined {
    const keySet = sets.get(uri)
    return keySet !== undefined && keySet.at >= steadyTime(clock) - keptInOutageMs ? keySet : undefined
  }

  /**
   * Like `keySetSince`, but if the set cannot be fetched, a cached set that is at most `keptInOutageMs` old is used.
   * This also applies if the fetch was refused because too many others are under way. So an attacker who causes many
   * fetches cannot lock out clients whose key sets are cached.
   */
  async function keySetOrKept(oldest: number, uri: string, slot: Slot | undefined): Promise<KeySet> {
    try {
      return await keySetSince(oldest, uri, slot)
    } catch (error) {
      const kept = keptInOutage(uri)
      if (kept === undefined) throw error
      return kept
    }
  }

  return {
    at: (uri, slot) => async (header, token) => {
      const now = steadyTime(clock)
      const keySet = await keySetOrKept(now - freshForMs, uri, slot)
      try {
        // If the signature has no `kid`, `keySet.find` may return a wrong key. So the signature is verified here: if no
        // key verifies it, the set is fetched again. This is left out if the set must not be fetched again yet.
        const verifies = !namesKey(header) && keySet.at < now - refetchPauseMs
        return await (verifies ? findVerifyingKey(keySet.find, header, token) : keySet.find(header, token))
      } catch (error) {
        if (!isAnotherKeyNeeded(error)) throw error
        return await (await keySetSince(now - refetchPauseMs, uri, slot)).find(header, token)
      }
    },
    latest: async (uri, slot) => (await keySetOrKept(steadyTime(clock) - refetchPauseMs, uri, slot)).keys,
    known(uri) {
      const keySet = sets.get(uri)
      if (keySet !== undefined && keySet.at >= steadyTime(clock) - freshForMs) return keySet.keys
      if (fetches.pauseLeft(uri) === 0) return undefined
      const kept = keptInOutage(uri)
      if (kept === undefined) fetches.throwIfPaused(uri)
      return kept?.keys
    },
    count: fetches.count,
  }
}

/**
 * Returns whether the error may mean that the cached set lacks the key of the signature, because the set at the
 * `jwks_uri` has changed since it was fetched.
 */
function isAnotherKeyNeeded(error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed
}

/**
 * Returns a `fetch` for oidc-provider, which mostly fetches key sets of clients. If a key set is cached, the returned
 * function does not fetch the set again.
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

/** Returns about how many bytes a cached set takes: its text, and the imported keys. */
function bytesOf(uri: string, { keys }: JSONWebKeySet): number {
  return 2_000 + 3_000 * keys.length + 2 * (uri.length + JSON.stringify(keys).length)
}

async function fetchKeySet(uri: string, caller: GuardedCaller): Promise<Omit<KeySet, 'at'>> {
  const answer = await caller.call({ url: uri, method: 'GET', headers: { accept: 'application/json' } })
  if (answer.status !== 200) throw new Error(`jwks_uri answered ${answer.status}`)
  // Some editors write a byte order mark, which is ignored (RFC 8259 §8.1).
  const keys = readKeys(JSON.parse(answer.body.replace(/^\uFEFF/, '')))
  return { keys, find: keysIn(keys) }
}

function readKeys(set: unknown): JSONWebKeySet {
  const keys: unknown = (set as { keys?: unknown } | null)?.keys
  if (!Array.isArray(keys) || keys.length > mostKeys)
    throw new Error(`jwks_uri has no list of at most ${mostKeys} keys`)
  const usable = keys.filter(isPlain).filter((key) => isComplete(key) && !isCostlyToVerify(key))
  return { keys: usable.map(withKnownMembers) as JSONWebKeySet['keys'] }
}
