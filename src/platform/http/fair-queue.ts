/**
 * A short queue for slow work. Each caller that waits or has its turn takes one place. The queue is fair between groups
 * of callers: the groups take turns, and the places of each group are limited. If all places are taken, a waiting
 * caller of the group with the most places loses its place to a caller of a group with fewer places. So callers that
 * call again and again do not exclude others. A caller that gets no place is refused at once.
 */

import { type Clock, systemClock } from '../clock.ts'
import { OAuthError } from '../oauth-error.ts'
import { networksOf } from './address.ts'
import type { IncomingConnection } from './connection.ts'
import { Overloaded } from './unavailable.ts'

/** Callers that share places, for instance the callers from one network, or the calls of one client. */
export interface PlaceGroup {
  name: string
  /** Upper limit for the places of the group, including the places of callers that have their turn. */
  most: number
}

export interface QueuedCaller {
  /**
   * The groups to which the caller belongs, the largest first, for instance all callers, a /48 network and a /64
   * network. The largest groups take turns. Within each group, the next smaller groups take turns.
   */
  groups: readonly PlaceGroup[]
  /** The connection of the caller. If it is closed while the caller waits, the caller's place is freed. */
  connection?: Pick<IncomingConnection, 'isClosed' | 'onClose'> | undefined
}

export interface FairQueue {
  /**
   * Returns whether a caller of these groups would get a place now: a free place, or the place of another caller, which
   * then loses it.
   */
  hasPlaceFor(caller: Pick<QueuedCaller, 'groups'>): boolean
  /**
   * Takes a place, and runs `work` when it is this caller's turn, possibly at once. `work` does not run if the caller
   * is refused or disconnects before its turn. Work that has begun is not stopped if the caller disconnects. The turn
   * ends when the work ends or exceeds the time limit.
   *
   * @throws {Overloaded} at once if there is no place for this caller, or later if the waiting caller loses its place
   * to another caller
   * @throws {CallerLeft} if the caller disconnected before its turn
   */
  withTurn<Result>(caller: QueuedCaller, work: () => Promise<Result>): Promise<Result>
  /**
   * Returns `places`, the number of callers that wait or have their turn, and `turns`, the number of callers that have
   * their turn. A caller whose work has exceeded the time limit is not counted.
   */
  counts(): { places: number; turns: number }
}

/**
 * Returns the groups of a caller that has not authenticated: all callers of this kind, its wide network (only in IPv6),
 * and its narrow network.
 *
 * @param kind the kind of work: callers of different kinds share no places
 * @param most upper limits for the places of all callers of this kind (`inAll`), of an IPv6 /48 (`wide`), and of an
 * IPv4 /24 or an IPv6 /64 (`narrow`)
 */
export function groupsByNetwork(
  kind: string,
  address: string | undefined,
  most: { inAll: number; wide: number; narrow: number },
): PlaceGroup[] {
  const [narrow, wide] = networksOf(address)
  return [
    { name: kind, most: most.inAll },
    ...(wide === undefined ? [] : [{ name: `${kind} of ${wide}`, most: most.wide }]),
    { name: `${kind} of ${narrow}`, most: most.narrow },
  ]
}

/** Thrown if the caller disconnected before its turn. */
export class CallerLeft extends OAuthError {
  constructor() {
    super('invalid_request', 'the connection ended before the answer')
  }
}

interface Entry {
  groups: readonly PlaceGroup[]
  state: 'waiting' | 'turn' | 'left'
  order: number
  turn: PromiseWithResolvers<void>
}

interface GroupUse {
  places: number
  /**
   * The number of the last turn that a caller of the group had. Turns are numbered from 1; 0 means that there was none.
   */
  lastTurn: number
}

/**
 * The time limit of a turn, in milliseconds. After this time, the turn is over even if the work has not ended: a
 * database connection or a hook that never answers must not keep other callers waiting. The work itself continues, and
 * its caller gets the result.
 */
const turnTimeoutMs = 10_000

/**
 * Returns an empty queue.
 *
 * @param atOnce how many callers may have their turn at the same time
 * @param clock measures the time limit of a turn
 */
export function createFairQueue(atOnce: number, clock: Pick<Clock, 'after'> = systemClock): FairQueue {
  const taken = createTakenPlaces()
  const { entries, uses, inTheWayOf } = taken
  let turnsGiven = 0
  let turns = 0

  function enter(groups: readonly PlaceGroup[]): Entry {
    const displaced = inTheWayOf(groups)
    if (displaced === 'all') throw new Overloaded()
    if (displaced !== undefined) turnAway(displaced, new Overloaded())
    const entry = taken.add(groups)
    giveTurns()
    return entry
  }

  function leave(entry: Entry): void {
    if (entry.state === 'left') return
    if (entry.state === 'turn') turns -= 1
    entry.state = 'left'
    taken.remove(entry)
    giveTurns()
  }

  /** Removes a waiting entry. @param why the error for the caller of the entry */
  function turnAway(entry: Entry, why: Error): void {
    entry.turn.reject(why)
    leave(entry)
  }

  function giveTurns(): void {
    while (turns < atOnce) {
      const next = [...entries].filter(({ state }) => state === 'waiting').sort(byTurn)[0]
      if (next === undefined) return
      turns += 1
      turnsGiven += 1
      for (const { name } of next.groups) uses.get(name)!.lastTurn = turnsGiven
      next.state = 'turn'
      next.turn.resolve()
    }
  }

  /**
   * Orders waiting entries: first the entry whose group had its last turn longest ago. The largest groups of the
   * entries are compared first, then the smaller groups.
   */
  function byTurn(one: Entry, other: Entry): number {
    const lastTurnOf = ({ groups }: Entry, level: number) => uses.get(groups[level]!.name)!.lastTurn
    for (let level = 0; level < Math.min(one.groups.length, other.groups.length); level++) {
      const difference = lastTurnOf(one, level) - lastTurnOf(other, level)
      if (difference !== 0) return difference
    }
    return one.order - other.order
  }

  return {
    hasPlaceFor: ({ groups }) => inTheWayOf(groups) !== 'all',
    async withTurn({ groups, connection }, work) {
      if (connection?.isClosed()) throw new CallerLeft()
      const entry = enter(groups)
      connection?.onClose(() => {
        if (entry.state === 'waiting') turnAway(entry, new CallerLeft())
      })
      let cancelTimeout = () => {}
      try {
        await entry.turn.promise
        cancelTimeout = clock.after(turnTimeoutMs, () => leave(entry))
        return await work()
      } finally {
        cancelTimeout()
        leave(entry)
      }
    },
    counts: () => ({ places: entries.size, turns }),
  }
}

/** Records which callers have places, and finds the caller that loses its place to a new one. */
function createTakenPlaces() {
  const entries = new Set<Entry>()
  const uses = new Map<string, GroupUse>()
  /** The groups that have no callers now, but whose last turn is still remembered. */
  const unused = new Set<string>()
  let arrivals = 0

  const placesOf = ({ name }: PlaceGroup) => uses.get(name)?.places ?? 0
  const isFull = (group: PlaceGroup) => placesOf(group) >= group.most
  /** Returns the number of places of an entry's second largest group, for instance of its network. */
  const placesBelow = ({ groups }: Pick<Entry, 'groups'>) => (groups[1] === undefined ? 0 : placesOf(groups[1]))

  /**
   * Finds the caller that loses its place if the group `largest` is full. Compares the second largest groups, for
   * instance the networks, of the callers that wait. Returns the last caller that arrived in the group with the most
   * places.
   */
  function latestOfMost(largest: PlaceGroup): Entry | undefined {
    let found: Entry | undefined
    for (const entry of entries) {
      if (entry.state !== 'waiting' || entry.groups[0]?.name !== largest.name) continue
      if (found === undefined || placesBelow(entry) >= placesBelow(found)) found = entry
    }
    return found
  }

  return {
    entries,
    uses,
    /**
     * Returns the entry that loses its place to a new caller of these groups. Returns undefined if a place is free, and
     * `all` if the new caller gets no place.
     */
    inTheWayOf(groups: readonly PlaceGroup[]): Entry | undefined | 'all' {
      const [largest, ...smaller] = groups
      if (smaller.some(isFull)) return 'all'
      if (largest === undefined || !isFull(largest)) return undefined
      const latest = latestOfMost(largest)
      // The caller is refused if the exchange would leave the group of `latest` with fewer places than the caller's
      // group, because that is not fairer.
      if (latest === undefined || placesBelow(latest) <= placesBelow({ groups }) + 1) return 'all'
      return latest
    },
    add(groups: readonly PlaceGroup[]): Entry {
      for (const { name } of groups) {
        const use = uses.get(name)
        if (use === undefined) uses.set(name, { places: 1, lastTurn: 0 })
        else use.places += 1
        unused.delete(name)
      }
      const entry: Entry = { groups, state: 'waiting', order: ++arrivals, turn: Promise.withResolvers() }
      entries.add(entry)
      return entry
    },
    remove(entry: Entry): void {
      entries.delete(entry)
      for (const { name } of entry.groups) {
        const use = uses.get(name)!
        use.places -= 1
        if (use.places === 0) unused.add(name)
      }
      forgetUnused()
    },
  }

  /**
   * Forgets groups that have no callers now. While any caller waits, up to `MOST_REMEMBERED` of these groups are kept;
   * the groups that have been without callers for longest are forgotten first. If a group were forgotten at once, a
   * caller that makes one call after the other would count as new each time, and get its turn before the waiting
   * callers.
   */
  function forgetUnused(): void {
    const most = doesAnyWait() ? MOST_REMEMBERED : 0
    for (const name of unused) {
      if (unused.size <= most) return
      unused.delete(name)
      uses.delete(name)
    }
  }

  function doesAnyWait(): boolean {
    for (const { state } of entries) if (state === 'waiting') return true
    return false
  }
}

/** Maximum number of groups without callers whose last turn is remembered. */
const MOST_REMEMBERED = 1000
