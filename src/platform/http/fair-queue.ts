/**
 * A short queue for what takes long, fair between those who wait: by turns, and with a bound on how many places one of
 * them can have. Where all places are taken, the caller with the most that wait gives one up for a caller who has fewer:
 * a few who come again and again do not keep everybody else out. A caller for whom there is no place is told at once.
 */

import { OAuthError } from '../oauth-error.ts'
import { networksOf } from './address.ts'
import type { IncomingConnection } from './connection.ts'
import { Overloaded } from './unavailable.ts'

/** Callers who share places: a network, say, or a client. */
export interface PlaceGroup {
  name: string
  /** Places its callers can have at the same time, those whose turn it is included. */
  most: number
}

export interface QueuedCaller {
  /** The groups it belongs to, the largest first. Turns go round among the largest, and within each in the same way. */
  groups: readonly PlaceGroup[]
  /** A caller who leaves while waiting frees the place. */
  connection?: Pick<IncomingConnection, 'isClosed' | 'onClose'> | undefined
}

export interface FairQueue {
  /** Whether such a caller would have a place now, be it that of another who has more. */
  hasPlaceFor(caller: Pick<QueuedCaller, 'groups'>): boolean
  /**
   * Takes a place, and carries out `work` when it is this caller's turn, at once if it is already. Nothing of the work
   * has begun before: who is refused or leaves has cost nothing but a place. Work under way keeps its turn until it
   * ends, although its caller has left: it cannot be stopped.
   *
   * @throws {Overloaded} at once, if there is no place for this caller; or while waiting, if the place was given up
   * @throws {CallerLeft} if the caller has left before the turn came
   */
  withTurn<Result>(caller: QueuedCaller, work: () => Promise<Result>): Promise<Result>
  /** How many places are taken, and how many callers have their turn. */
  counts(): { places: number; turns: number }
}

/**
 * The groups of a caller who has shown nothing yet: by network, and by the wider one that it is a part of.
 *
 * @param kind what it comes for: callers of different kinds share no places
 * @param most places of all callers of this kind, of an IPv6 /48, and of an IPv4 /24 or an IPv6 /64
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

/** The caller has left before the turn came. */
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
  /** When one of the group last had a turn, as a count of turns. */
  lastTurn: number
}

/** @param atOnce how many have their turn at the same time */
export function createFairQueue(atOnce: number): FairQueue {
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

  /** One that waits. */
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

  /** The group that had its last turn longest ago goes first, the largest groups compared before smaller ones. */
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
      try {
        await entry.turn.promise
        return await work()
      } finally {
        leave(entry)
      }
    },
    counts: () => ({ places: entries.size, turns }),
  }
}

/** Which callers have places, and which would have to give one up. */
function createTakenPlaces() {
  const entries = new Set<Entry>()
  const uses = new Map<string, GroupUse>()
  let arrivals = 0

  const placesOf = ({ name }: PlaceGroup) => uses.get(name)?.places ?? 0
  const isFull = (group: PlaceGroup) => placesOf(group) >= group.most
  /** How many places the group next to the largest has: a network's, say. */
  const placesBelow = ({ groups }: Pick<Entry, 'groups'>) => (groups[1] === undefined ? 0 : placesOf(groups[1]))

  /** The one that came last of those that wait in the group that has most places. */
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
     * Returns the one that is to give up a place for a caller of these groups, undefined if there is a free one, or
     * `all` if none is to.
     */
    inTheWayOf(groups: readonly PlaceGroup[]): Entry | undefined | 'all' {
      const [largest, ...smaller] = groups
      if (smaller.some(isFull)) return 'all'
      if (largest === undefined || !isFull(largest)) return undefined
      const latest = latestOfMost(largest)
      // With as many as the caller would have then there is nothing to be made fairer.
      if (latest === undefined || placesBelow(latest) <= placesBelow({ groups }) + 1) return 'all'
      return latest
    },
    add(groups: readonly PlaceGroup[]): Entry {
      for (const { name } of groups) {
        const use = uses.get(name)
        if (use === undefined) uses.set(name, { places: 1, lastTurn: 0 })
        else use.places += 1
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
        if (use.places === 0) uses.delete(name)
      }
    },
  }
}
