/**
 * Limits the number of unfinished sign-ins. Every caller can begin a sign-in, and each sign-in is stored as a row
 * before a user has signed in. So each unfinished sign-in takes a place, and this process has a limited number of
 * places, for each network and in total. The place becomes free when the sign-in is finished or has expired.
 */
import { type Clock, steadyTime } from '../platform/clock.ts'
import { networksOf } from '../platform/http/address.ts'

export interface SignInLimits {
  /**
   * Maximum number of unfinished sign-ins of one network: a /24 (IPv4) or a /64 (IPv6). A /48 may have four times as
   * many.
   */
  perNetwork: number
  /** Maximum number of unfinished sign-ins of all networks together, in this process. */
  inAll: number
}

/**
 * The place of one unfinished sign-in, as one call of the browser uses it. After this call, the place stays taken only
 * if a row was stored for the sign-in.
 */
export interface SignInPlace {
  /**
   * Remembers that a row is stored for the sign-in. `idHash` is the hash of its id, and `expiresAt` is in milliseconds
   * since 1970. Returns the id hashes of other sign-ins, whose rows must be removed to make room.
   */
  keep(idHash: string, expiresAt: number): string[]
  /**
   * Must be called when the call of the browser has finished. Returns the id hashes of sign-ins whose rows must still
   * be removed.
   */
  end(): string[]
}

export type SignInPlaces = ReturnType<typeof createSignInPlaces>

/**
 * Milliseconds during which a sign-in keeps its place even if a new sign-in needs one. `oneOfAll` describes an
 * exception.
 */
const undisturbedMs = 60_000
/**
 * The limit of a /48 is the limit of a /64 times this number, because a /48 contains many /64 networks, for example all
 * those of a household or of a company.
 */
const widerTimes = 4

interface Taken {
  networks: readonly string[]
  /** When the place was taken, in milliseconds of `steadyTime`. */
  since: number
  /** In milliseconds since 1970. */
  expiresAt: number
  idHash?: string
}

/**
 * Returns a substitute for a place, for a call whose user may still be signed in. If the user is signed in, no row is
 * stored for the call, so it needs no place. If the user is not signed in, `keep` throws.
 *
 * @param error says why there is no place; `keep` throws it
 */
export function withoutPlace(error: NoPlace): SignInPlace {
  return {
    keep() {
      throw error
    },
    end: () => [],
  }
}

/** Thrown if no place is free. A place may become free after `retryAfter` seconds. */
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

  function isFull(its: ReadonlySet<Taken> | undefined, most: number): its is ReadonlySet<Taken> {
    if (its === undefined || its.size < most) return false
    places.giveUpExpired(clock.now())
    return its.size >= most
  }

  /**
   * Selects the sign-in that loses its place when the limit for all networks together is reached. Usually this is the
   * oldest sign-in of all networks. There is an exception if the network with the most sign-ins has more of them than
   * the network of the new sign-in will have. Then the oldest sign-in of the network with the most sign-ins is
   * selected, even if it is younger than `undisturbedMs`.
   * @throws {NoPlace} if the oldest sign-in of all networks is selected, but it is younger than `undisturbedMs` or its
   *   row is not stored yet
   */
  function oneOfAll(networks: readonly string[], now: number): Taken {
    const most = places.mostOfOne()
    const own = Math.max(...networks.map((network) => ofNetwork.get(network)?.size ?? 0))
    const [oldest] = most
    return own + 1 < most.size && oldest?.idHash !== undefined ? oldest : oldestOf(all, now)
  }

  /** Frees places for a new sign-in. Returns the id hashes of the rows that must be removed. */
  function makeRoom(networks: readonly string[]): string[] {
    const now = steadyTime(clock)
    const removed: string[] = []
    const remove = (taken: Taken) => {
      removed.push(taken.idHash!)
      giveUp(taken)
    }
    for (const [index, network] of networks.entries()) {
      const its = ofNetwork.get(network)
      if (isFull(its, perNetwork * (index === 0 ? 1 : widerTimes))) remove(oldestOf(its, now))
    }
    if (isFull(all, inAll)) remove(oneOfAll(networks, now))
    return removed
  }

  return {
    /** Takes a place for a new sign-in. @throws {NoPlace} if no place is free and none can be freed */
    begin(address: string): SignInPlace {
      const networks = networksOf(address)
      const removed = makeRoom(networks)
      return placeOf(places, networks, take(networks), removed)
    },
    /**
     * Returns the place for a call that continues a sign-in. The sign-in may have begun on another node. When its next
     * row is stored, the sign-in takes a place in this process, even if the limit is then exceeded.
     */
    goOn: (address: string): SignInPlace => placeOf(places, networksOf(address), undefined, []),
    /** Frees the place of a sign-in whose row was removed. */
    ended: places.ended,
    /** Returns the number of taken places. */
    count: () => all.size,
  }
}

type TakenPlaces = ReturnType<typeof createTakenPlaces>

function createTakenPlaces(clock: Clock) {
  /** All taken places, in the order in which they were taken. The sets in `ofNetwork` have the same order. */
  const all = new Set<Taken>()
  const ofNetwork = new Map<string, Set<Taken>>()
  const byId = new Map<string, Taken>()
  /**
   * The sets of `ofNetwork`, by size. When all places are taken, each call needs the network with the most sign-ins.
   * With this list, the call finds this network without a search through all networks, of which there may be thousands.
   */
  const bySize: Set<Set<Taken>>[] = []
  let largest = 0
  /**
   * The server does not look for expired places before this time (milliseconds since 1970). Without this variable, each
   * call would look at all places while no place is free.
   */
  let nextExpiry = Number.POSITIVE_INFINITY

  function resize(its: Set<Taken>, change: () => unknown): void {
    bySize[its.size]?.delete(its)
    change()
    bySize[its.size] ??= new Set()
    if (its.size > 0) bySize[its.size]!.add(its)
    largest = Math.max(largest, its.size)
    // The size of a set changes by one at a time, so this loop runs at most once.
    while (largest > 0 && bySize[largest]!.size === 0) largest -= 1
  }

  function giveUp(taken: Taken): void {
    all.delete(taken)
    if (taken.idHash !== undefined) byId.delete(taken.idHash)
    for (const network of taken.networks) {
      const its = ofNetwork.get(network)
      if (its === undefined) continue
      resize(its, () => its.delete(taken))
      if (its.size === 0) ofNetwork.delete(network)
    }
  }

  return {
    all,
    ofNetwork,
    giveUp,
    giveUpExpired(now: number): void {
      if (now < nextExpiry) return
      nextExpiry = Number.POSITIVE_INFINITY
      for (const taken of all) {
        if (taken.expiresAt <= now) giveUp(taken)
        else nextExpiry = Math.min(nextExpiry, taken.expiresAt)
      }
      // With this minimum, the server looks at all places no more than once a second, even if they expire one after the
      // other.
      nextExpiry = Math.max(nextExpiry, now + 1_000)
    },
    /** Returns the sign-ins of the network that has the most sign-ins. */
    mostOfOne: (): ReadonlySet<Taken> => bySize[largest]?.values().next().value ?? new Set(),
    take(networks: readonly string[]): Taken {
      const taken = { networks, since: steadyTime(clock), expiresAt: Number.POSITIVE_INFINITY }
      all.add(taken)
      for (const network of networks) {
        const its = ofNetwork.get(network) ?? new Set<Taken>()
        ofNetwork.set(network, its)
        resize(its, () => its.add(taken))
      }
      return taken
    },
    keep(taken: Taken, idHash: string, expiresAt: number): void {
      Object.assign(taken, { idHash, expiresAt })
      nextExpiry = Math.min(nextExpiry, expiresAt)
      byId.set(idHash, taken)
    },
    ended(idHash: string): void {
      const taken = byId.get(idHash)
      if (taken !== undefined) giveUp(taken)
    },
  }
}

/**
 * Returns the oldest sign-in of the set `its`.
 * @throws {NoPlace} if this sign-in is younger than `undisturbedMs`, or its row is not stored yet
 */
function oldestOf(its: ReadonlySet<Taken>, now: number): Taken {
  const [oldest] = its
  const wait = (oldest?.since ?? now) + undisturbedMs - now
  if (oldest?.idHash === undefined || wait > 0) throw new NoPlace(Math.max(1, Math.ceil(wait / 1000)))
  return oldest
}

/**
 * Returns the place for a call.
 *
 * @param held the place, if it is already taken. If undefined, `keep` takes a place when the first row is stored
 * @param removed id hashes of rows that must be removed. The first call of `keep` or `end` returns them
 */
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
