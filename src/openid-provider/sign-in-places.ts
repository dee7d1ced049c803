/**
 * What begins to sign in is kept before anybody has signed in: a row that every stranger can make. So there are places
 * for them, so many for one network and for all, in this process. Whoever has signed in, or is late, gives the place up.
 */
import type { Clock } from '../platform/clock.ts'
import { networksOf } from '../platform/http/address.ts'

export interface SignInLimits {
  /** Sign-ins that one network (/24; /64, and four times as many of a /48) may have begun and not ended. */
  perNetwork: number
  /** And all networks together, at this process. */
  inAll: number
}

/** A place for one sign-in under way; it stays taken when something was kept for it. */
export interface SignInPlace {
  /** What was kept for it, by the hash of its id, and until when. Returns what is to be removed in its stead. */
  keep(idHash: string, expiresAt: number): string[]
  /** Nothing more will be kept by this call. Returns what is to be removed all the same. */
  end(): string[]
}

export type SignInPlaces = ReturnType<typeof createSignInPlaces>

/** Milliseconds that whoever has begun to sign in is left alone, however many come after. */
const undisturbedMs = 60_000
/** A /48 is many /64s, of one household or of a whole company. */
const widerTimes = 4

interface Taken {
  networks: readonly string[]
  since: number
  expiresAt: number
  idHash?: string
}

/** There is no place; `retryAfter` seconds from now there may be one. */
export class NoPlace extends Error {
  override readonly name = 'NoPlace'
  readonly retryAfter: number

  constructor(retryAfter: number) {
    super('too many sign-ins are unfinished')
    this.retryAfter = retryAfter
  }
}

export function createSignInPlaces({ perNetwork, inAll }: SignInLimits, clock: Clock) {
  const places = createTakenPlaces(clock)
  const { all, ofNetwork, take, giveUp } = places

  function isFull(its: ReadonlySet<Taken> | undefined, most: number, now: number): its is ReadonlySet<Taken> {
    if (its === undefined || its.size < most) return false
    for (const taken of its) if (taken.expiresAt <= now) giveUp(taken)
    return its.size >= most
  }

  /** Where all places are taken, whoever has more than the one that comes gives one up; else the oldest of all. */
  function oneOfAll(networks: readonly string[], now: number): Taken {
    let most: ReadonlySet<Taken> = new Set()
    for (const its of ofNetwork.values()) if (its.size > most.size) most = its
    const own = Math.max(...networks.map((network) => ofNetwork.get(network)?.size ?? 0))
    const [oldest] = most
    return own + 1 < most.size && oldest?.idHash !== undefined ? oldest : oldestOf(all, now)
  }

  /** Those that give their place up for one that begins. */
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
    /** @throws {NoPlace} */
    begin(address: string): SignInPlace {
      const networks = networksOf(address)
      const removed = makeRoom(networks)
      return placeOf(places, networks, take(networks), removed)
    },
    /** One that goes on, here or from another node: what is kept next takes its place, without a question. */
    goOn: (address: string): SignInPlace => placeOf(places, networksOf(address), undefined, []),
    /** It is no longer kept. */
    ended: places.ended,
    /** Places taken at this moment. */
    count: () => all.size,
  }
}

type TakenPlaces = ReturnType<typeof createTakenPlaces>

function createTakenPlaces(clock: Clock) {
  /** In the order in which they were taken, as are those of each network. */
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

/** The oldest of `its` makes room, if it has had its time; else there is no room. */
function oldestOf(its: ReadonlySet<Taken>, now: number): Taken {
  const [oldest] = its
  const wait = (oldest?.since ?? now) + undisturbedMs - now
  if (oldest?.idHash === undefined || wait > 0) throw new NoPlace(Math.max(1, Math.ceil(wait / 1000)))
  return oldest
}

/** @param removed those that have made room, until somebody is told to remove them */
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
