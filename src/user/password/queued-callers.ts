/**
 * The groups of callers that share places in the queue for passwords and user codes. Each kind of caller has places of
 * its own. Anonymous callers take no places of known users, and clients take no places of users.
 */
import { networksOf } from '../../platform/http/address.ts'
import { groupsByNetwork, type PlaceGroup } from '../../platform/http/fair-queue.ts'

/**
 * Maximum number of places for anonymous callers. Known users have the same number of places. With this number, a
 * caller waits for three seconds at most, or for six seconds if only one hash is computed at a time.
 */
const MOST_PEOPLE = 16

/** Returns the groups of an anonymous caller whose password is to be checked. */
export function strangerAt(address: string | undefined): PlaceGroup[] {
  return groupsByNetwork('strangers', address, { inAll: MOST_PEOPLE, wide: 10, narrow: 5 })
}

/**
 * Returns the groups of a caller whose sign-in is looked up before its password is checked. Look-ups have more places
 * than hashes, because a look-up takes only a few reads. Some callers need no hash, because of a pause or because the
 * sign-in belongs to another browser. They take no place for hashing.
 *
 * @param mayBeKnown whether a user has signed in with this browser before, according to its cookie
 */
export function lookingUpFrom(address: string | undefined, mayBeKnown: boolean): PlaceGroup[] {
  const kind = mayBeKnown ? 'known browsers looking up' : 'strangers looking up'
  return groupsByNetwork(kind, address, { inAll: 256, wide: 32, narrow: 16 })
}

/** Returns the groups of a user who has signed in, or who has signed in with this browser before. */
export function knownUser(userId: string): PlaceGroup[] {
  return [
    { name: 'users', most: MOST_PEOPLE },
    { name: `user ${userId}`, most: 8 },
  ]
}

/**
 * Returns the groups of an authenticated client. The network of the client also has a limit, because an attacker in one
 * network may have registered many clients.
 */
export function authenticatedClient(clientId: string, address: string | undefined): PlaceGroup[] {
  return [
    { name: 'clients', most: 64 },
    { name: `clients of ${networksOf(address).at(-1)}`, most: 32 },
    { name: `client ${clientId}`, most: 8 },
  ]
}
