/**
 * Limits waits for a service that the operator has configured, for instance another OpenID provider where users sign
 * in. Anonymous callers can cause such waits. So a waiting call holds no slot (`load-shedding.ts`), and the number of
 * waiting calls is limited.
 */
import { networksOf } from './address.ts'
import { Bounds } from './bounds.ts'
import type { LoadShedding, Slot } from './load-shedding.ts'

/**
 * Runs `work` while the call that needs the result waits.
 *
 * @param returning the id of the user if the call contains an encrypted cookie of a user who has signed in before
 * @throws {Overloaded} if too many calls wait already
 */
export type BoundedWait = <T>(slot: Slot | undefined, work: () => Promise<T>, returning?: string) => Promise<T>

/**
 * Upper limits for waiting calls. A network is the /24 in IPv4; in IPv6, the /64 and the /48 are counted separately. If
 * `eachNetwork` or `inAll` is reached, calls of users who have signed in before (`returning`) may still wait, up to
 * `eachUser` and `usersInAll`.
 */
export const waitLimits = { eachNetwork: 100, inAll: 1000, eachUser: 5, usersInAll: 250 }

/**
 * Returns a function that runs `work` within `waitLimits`. The call holds no slot of the load shedding while `work`
 * runs.
 */
export function createBoundedWait(releaseSlotWhile: LoadShedding['releaseSlotWhile']): BoundedWait {
  const waiting = new Bounds(waitLimits.inAll)
  const waitingUsers = new Bounds(waitLimits.usersInAll)

  function enter(address: string | undefined, user: string | undefined): () => void {
    try {
      return waiting.enter(networksOf(address).map((network) => ({ key: network, most: waitLimits.eachNetwork })))
    } catch (error) {
      if (user === undefined) throw error
      return waitingUsers.enter([{ key: user, most: waitLimits.eachUser }])
    }
  }

  return async (slot, work, returning) => {
    const leave = enter(slot?.address, returning)
    try {
      return await releaseSlotWhile(slot, work())
    } finally {
      leave()
    }
  }
}
