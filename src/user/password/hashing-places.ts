/**
 * Where a server hashes passwords and user codes: two at a time, each in a thread of its own, after a short queue. A
 * hash takes as long as a thousand signatures; without this, strangers at the sign-in page could stop everything else.
 */
import { networksOf } from '../../platform/http/address.ts'
import { createFairQueue, type FairQueue, type Place, type PlaceGroup, type QueuedCaller } from './fair-queue.ts'
import { createPasswordHashing, type HashingNeeds, type PasswordHashing } from './password-hashing.ts'

/** Hashes that are computed at the same time. Each takes 128 MiB while it is. */
const AT_ONCE = 2

export interface HashingPlaces {
  /** Before anything is done for a caller who would have no place. @throws {Overloaded} */
  refuseIfFull: FairQueue['refuseIfFull']
  /**
   * Hashes for one caller, who takes a place for each. All methods throw `Overloaded` at once if there is none, and
   * `CallerLeft` if the caller leaves before its turn.
   */
  hashingFor(caller: QueuedCaller): PasswordHashing
  counts: FairQueue['counts']
}

export function createHashingPlaces({ scrypt, ...needs }: HashingNeeds): HashingPlaces {
  const queue = createFairQueue(AT_ONCE)

  const hashingAt = (place: Place) =>
    createPasswordHashing({
      ...needs,
      async scrypt(job) {
        await place.turn()
        return scrypt(job)
      },
    })

  return {
    refuseIfFull: queue.refuseIfFull,
    hashingFor: (caller) => ({
      hash: (...given) => queue.withPlace(caller, (place) => hashingAt(place).hash(...given)),
      verify: (...given) => queue.withPlace(caller, (place) => hashingAt(place).verify(...given)),
    }),
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
