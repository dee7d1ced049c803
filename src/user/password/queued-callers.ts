/**
 * Which callers share places in the queue for passwords and user codes. Places are counted by kind of caller, so that
 * strangers take none from known users, and clients none from either.
 */
import { networksOf } from '../../platform/http/address.ts'
import { groupsByNetwork, type PlaceGroup } from '../../platform/http/fair-queue.ts'

/** So many people wait for three seconds at most, or for six where one hash is computed at a time. */
const MOST_PEOPLE = 16

/** A caller that has not authenticated, and whose password is to be checked. */
export function strangerAt(address: string | undefined): PlaceGroup[] {
  return groupsByNetwork('strangers', address, { inAll: MOST_PEOPLE, wide: 10, narrow: 5 })
}

/**
 * A caller whose sign-in is looked up before a password is checked. That takes a few reads, so many have a place: callers
 * that need no hash, because of a pause or because the sign-in is not theirs, block no others.
 *
 * @param mayBeKnown whether a user has signed in with this browser before, according to its cookie
 */
export function lookingUpFrom(address: string | undefined, mayBeKnown: boolean): PlaceGroup[] {
  const kind = mayBeKnown ? 'known browsers looking up' : 'strangers looking up'
  return groupsByNetwork(kind, address, { inAll: 256, wide: 32, narrow: 16 })
}

/** A user who has signed in, or whose browser has been used to sign in. */
export function knownUser(userId: string): PlaceGroup[] {
  return [
    { name: 'users', most: MOST_PEOPLE },
    { name: `user ${userId}`, most: 8 },
  ]
}

/** A client that has authenticated. Where clients register themselves, one network may have many. */
export function authenticatedClient(clientId: string, address: string | undefined): PlaceGroup[] {
  return [
    { name: 'clients', most: 64 },
    { name: `clients of ${networksOf(address).at(-1)}`, most: 32 },
    { name: `client ${clientId}`, most: 8 },
  ]
}
