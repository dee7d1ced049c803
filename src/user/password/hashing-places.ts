/**
 * Where a server hashes passwords and user codes: at most two at a time, each in a thread of its own, after a short
 * queue. A hash takes as long as a thousand signatures; without this, strangers at the sign-in page could stop
 * everything else.
 */
import { availableParallelism } from 'node:os'
import { networksOf } from '../../platform/http/address.ts'
import { createFairQueue, type FairQueue, type Place, type PlaceGroup, type QueuedCaller } from './fair-queue.ts'
import { createPasswordHashing, type HashingNeeds, type PasswordHashing } from './password-hashing.ts'

/**
 * How many hashes are computed at the same time; each takes 128 MiB while it is. With two processors one is left to
 * everything else: a low priority of the threads does not help a database beside the server, whose processes the system
 * weighs by themselves.
 */
const usualAtOnce = availableParallelism() > 2 ? 2 : 1

export interface HashingPlacesNeeds extends HashingNeeds {
  /** Hashes that are computed at the same time. Unless told, two; one where there are no more than two processors. */
  atOnce?: number
}

export interface HashingPlaces {
  hasPlaceFor: FairQueue['hasPlaceFor']
  /**
   * Takes a place, then carries out `work`, which keeps it: what has to be read or counted before a hash belongs into
   * it, so that of many at once only those with a place burden the database. The first hash waits for the turn.
   *
   * @throws {Overloaded} if there is no place, or it was given up before the turn
   * @throws {CallerLeft} if the caller left before the turn
   */
  withPlace<Result>(caller: QueuedCaller, work: (hashing: PasswordHashing) => Promise<Result>): Promise<Result>
  counts: FairQueue['counts']
}

export function createHashingPlaces(given: HashingPlacesNeeds): HashingPlaces {
  const { scrypt, atOnce = usualAtOnce, ...needs } = given
  const queue = createFairQueue(atOnce)

  const hashingAt = (place: Place) =>
    createPasswordHashing({
      ...needs,
      async scrypt(job) {
        await place.turn()
        return scrypt(job)
      },
    })

  return {
    hasPlaceFor: queue.hasPlaceFor,
    withPlace: (caller, work) => queue.withPlace(caller, (place) => work(hashingAt(place))),
    counts: queue.counts,
  }
}

/**
 * Places are counted by kind of caller, so that strangers take none from users who are known, nor clients from either.
 * This many people wait for some three seconds at most.
 */
const MOST_PEOPLE = 16

/** Whoever comes from somewhere and has shown nothing yet. */
export function strangerAt(address: string | undefined): PlaceGroup[] {
  const [narrow, wide] = networksOf(address)
  return [
    { name: 'strangers', most: MOST_PEOPLE },
    ...(wide === undefined ? [] : [{ name: `strangers of ${wide}`, most: 10 }]),
    { name: `strangers of ${narrow}`, most: 5 },
  ]
}

/** Who has signed in, or comes with a browser that has. */
export function knownUser(userId: string): PlaceGroup[] {
  return [
    { name: 'users', most: MOST_PEOPLE },
    { name: `user ${userId}`, most: 8 },
  ]
}

/** A client that has shown who it is. Where clients register themselves, one network may well have many. */
export function authenticatedClient(clientId: string, address: string | undefined): PlaceGroup[] {
  return [
    { name: 'clients', most: 64 },
    { name: `clients of ${networksOf(address).at(-1)}`, most: 32 },
    { name: `client ${clientId}`, most: 8 },
  ]
}
