/**
 * Waiting for a service that the operator has named, another provider where users sign in, say. Anybody can make us wait
 * for it: so nobody holds a place meanwhile, and so many wait at a time.
 */
import { networksOf } from './address.ts'
import { Bounds } from './bounds.ts'
import type { LoadShedding, Slot } from './load-shedding.ts'

/** @throws {Overloaded} if too many wait already */
export type BoundedWait = <T>(slot: Slot | undefined, work: () => Promise<T>) => Promise<T>

/** Networks are the /24 of an IPv4 address, the /64 and the /48 of an IPv6 address, each by itself. */
export const waitLimits = { eachNetwork: 100, inAll: 1000 }

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

/** For what does not leave this process. */
export const noWait: BoundedWait = (_slot, work) => work()
