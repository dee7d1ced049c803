/**
 * Limits waits for a service that the operator has configured, for instance another OpenID provider where users sign in.
 * Anonymous callers can cause such waits. So a waiting call holds no slot, and the number of waiting calls is limited.
 */
import { networksOf } from './address.ts'
import { Bounds } from './bounds.ts'
import type { LoadShedding, Slot } from './load-shedding.ts'

/**
 * Runs `work`, while the call that needs its result waits.
 *
 * @throws {Overloaded} if too many calls wait already
 */
export type BoundedWait = <T>(slot: Slot | undefined, work: () => Promise<T>) => Promise<T>

/** Upper limits for waiting calls. A network is the /24 in IPv4; in IPv6, the /64 and the /48 are counted separately. */
export const waitLimits = { eachNetwork: 100, inAll: 1000 }

/** Returns a function that runs `work` within the limits. The call holds no slot while `work` runs. */
export function createBoundedWait(releaseSlotWhile: LoadShedding['releaseSlotWhile']): BoundedWait {
  const waiting = new Bounds(waitLimits.inAll)
  return async (slot, work) => {
    const networks = networksOf(slot?.address)
    const leave = waiting.enter(networks.map((network) => ({ key: network, most: waitLimits.eachNetwork })))
    try {
      return await releaseSlotWhile(slot, work())
    } finally {
      leave()
    }
  }
}
