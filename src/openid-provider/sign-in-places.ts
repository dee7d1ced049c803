/**
 * A limit on unfinished sign-ins. Every caller can begin one, and each is stored as a row before a user has signed in. Each
 * takes a place; this process has a limited number of places for each network and in all. A place becomes free when the
 * sign-in is finished or expires.
 */
import type { Clock } from '../platform/clock.ts'
import { networksOf } from '../platform/http/address.ts'

export interface SignInLimits {
  /** Unfinished sign-ins of one network: a /24 or a /64. A /48 may have four times as many. */
  perNetwork: number
  /** Unfinished sign-ins of all networks together, in this process. */
  inAll: number
}

/** A place for one unfinished sign-in. It stays taken after the call if a row was stored for it. */
export interface SignInPlace {
  /**
   * Records the row that was stored: the hash of its id, and when it expires, in milliseconds since 1970. Returns the id
   * hashes of rows that must be removed to make room.
   */
  keep(idHash: string, expiresAt: number): string[]
  /** Ends the call. Returns the id hashes of rows that still must be removed. */
  end(): string[]
}

export type SignInPlaces = ReturnType<typeof createSignInPlaces>

/** Milliseconds for which a sign-in keeps its place, however many begin after it. */
const undisturbedMs = 60_000
/** A /48 contains many /64s, of one household or of a whole company. */
const widerTimes = 4

interface Taken {
  networks: readonly string[]
  since: number
  expiresAt: number
  idHash?: string
}

/** No place is free. One may be free after `retryAfter` seconds. */
export class NoPlace extends Error {
  override readonly name = 'NoPlace'
  readonly retryAfter: number

  constructor(retryAfter: number) {
    super('too many sign-ins are unfinished')
    this.retryAfter = retryAfter
  }
}

/** Creates the places of this process, which are kept in memory. */
export function createSignInPlaces({ perNetwork, inAll }: SignInLimits, clock: Clock) {
  const places = createTakenPlaces(clock)
  const { all, ofNetwork, take, giveUp } = places

  function isFull(its: ReadonlySet<Taken> | undefined, most: number, now: number): its is ReadonlySet<Taken> {
    if (its === undefined || its.size < most) return false
    for (const taken of its) if (taken.expiresAt <= now) giveUp(taken)
    return its.size >= most
  }

  /**
   * Selects the sign-in that loses its place when all are taken: the oldest of the network with the most, if that has more
   * than the caller's; else the oldest of all.
   */
  function oneOfAll(networks: readonly string[], now: number): Taken {
    let most: ReadonlySet<Taken> = new Set()
    for (const its of ofNetwork.values()) if (its.size > most.size) most = its
    const own = Math.max(...networks.map((network) => ofNetwork.get(network)?.size ?? 0))
    const [oldest] = most
    return own + 1 < most.size && oldest?.idHash !== undefined ? oldest : oldestOf(all, now)
  }

  /** Frees places for a new sign-in. Returns the id hashes of the rows that must be removed. */
  function makeRoom(networks: readonly string[]): string[] {
    const now = clock.now()
    const removed: string[] = []
    const remove = (taken: Taken) => {
      removed.push(taken.idHash!)
      giveUp(taken)
    }
    for (const [index, network] of networks.entries()) {
      const its = ofNetwork.get(network)
      if (isFull(its, perNetwork * (index === 0 ? 1 : widerTimes), now)) remove(oldestOf(its, now))
    }
    if (isFull(all, inAll, now)) remove(oneOfAll(networks, now))
    return removed
  }

  return {
    /** @throws {NoPlace} if no place is free and none can be freed */
    begin(address: string): SignInPlace {
      const networks = networksOf(address)
      const removed = makeRoom(networks)
      return placeOf(places, networks, take(networks), removed)
    },
    /** A sign-in that continues, begun here or on another node: its next row takes a place without a check. */
    goOn: (address: string): SignInPlace => placeOf(places, networksOf(address), undefined, []),
    /** Frees the place of a row that was removed. */
    ended: places.ended,
    /** Returns the number of places taken. */
    count: () => all.size,
  }
}

type TakenPlaces = ReturnType<typeof createTakenPlaces>

function createTakenPlaces(clock: Clock) {
  /** In the order in which places were taken; so are the sets of each network. */
  const all = new Set<Taken>()
  const ofNetwork = new Map<string, Set<Taken>>()
  const byId = new Map<string, Taken>()

  function giveUp(taken: Taken): void {
    all.delete(taken)
    if (taken.idHash !== undefined) byId.delete(taken.idHash)
    for (const network of taken.networks) {
      const its = ofNetwork.get(network)
      its?.delete(taken)
      if (its?.size === 0) ofNetwork.delete(network)
    }
  }

  return {
    all,
    ofNetwork,
    giveUp,
    take(networks: readonly string[]): Taken {
      const taken = { networks, since: clock.now(), expiresAt: Number.POSITIVE_INFINITY }
      all.add(taken)
      for (const network of networks) {
        const its = ofNetwork.get(network) ?? new Set()
        ofNetwork.set(network, its.add(taken))
      }
      return taken
    },
    keep(taken: Taken, idHash: string, expiresAt: number): void {
      Object.assign(taken, { idHash, expiresAt })
      byId.set(idHash, taken)
    },
    ended(idHash: string): void {
      const taken = byId.get(idHash)
      if (taken !== undefined) giveUp(taken)
    },
  }
}

/**
 * Returns the oldest sign-in of `its`.
 * @throws {NoPlace} if it has not had its `undisturbedMs`, or its row is not stored yet
 */
function oldestOf(its: ReadonlySet<Taken>, now: number): Taken {
  const [oldest] = its
  const wait = (oldest?.since ?? now) + undisturbedMs - now
  if (oldest?.idHash === undefined || wait > 0) throw new NoPlace(Math.max(1, Math.ceil(wait / 1000)))
  return oldest
}

/** @param removed id hashes of the rows that must be removed, until they are returned once */
function placeOf(
  { take, keep, giveUp }: TakenPlaces,
  networks: readonly string[],
  held: Taken | undefined,
  removed: string[],
): SignInPlace {
  let taken = held
  return {
    keep(idHash, expiresAt) {
      taken ??= take(networks)
      keep(taken, idHash, expiresAt)
      return removed.splice(0)
    },
    end() {
      if (taken !== undefined && taken.idHash === undefined) giveUp(taken)
      return removed.splice(0)
    },
  }
}
