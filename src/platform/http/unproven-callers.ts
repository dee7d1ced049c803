/**
 * Callers that have not authenticated yet. Their shares depend on the network they call from and, within it, on the client
 * they claim to be. A stranger that claims to be a client takes nothing from that client, which calls from another network,
 * and nothing from other clients of the same network. A caller that has authenticated as the client before, from this
 * address, is counted as that client at once, outside of these shares.
 */
import { networkOf, networksOf } from './address.ts'

export interface Claim {
  network: string
  clientId: string
}

interface NetworkShare {
  count: number
  /** Counts by claimed client. */
  claims: Map<string, number>
}

/** Counts for one group of routes. */
export class UnprovenCallers {
  readonly #networks = new Map<string, NetworkShare>()
  readonly #most: number
  #count = 0

  /** @param most slots of the group */
  constructor(most: number) {
    this.#most = most
  }

  /** Unproven callers that hold a slot now. */
  get count(): number {
    return this.#count
  }

  /**
   * Whether there is capacity for one more. The first quarter of the slots is for all. Then a network may have half of the
   * slots divided by the number of networks, and a claimed client two thirds of that divided by the number of clients claimed
   * from there. The last quarter is reserved for callers that have authenticated.
   */
  hasCapacity({ network, clientId }: Claim): boolean {
    const most = this.#most
    if (this.#count < most / 4) return true
    if (this.#count >= (most * 3) / 4) return false
    const share = this.#networks.get(network)
    const ofNetwork = most / 2 / (this.#networks.size + (share === undefined ? 1 : 0))
    if ((share?.count ?? 0) >= Math.max(1, ofNetwork)) return false
    const claimed = share?.claims.get(clientId) ?? 0
    const claims = (share?.claims.size ?? 0) + (claimed === 0 ? 1 : 0)
    return claimed < Math.max(1, (ofNetwork * 2) / 3 / claims)
  }

  enter({ network, clientId }: Claim): void {
    const share = this.#networks.get(network) ?? { count: 0, claims: new Map() }
    this.#networks.set(network, share)
    share.count += 1
    share.claims.set(clientId, (share.claims.get(clientId) ?? 0) + 1)
    this.#count += 1
  }

  leave({ network, clientId }: Claim): void {
    const share = this.#networks.get(network)!
    const claimed = share.claims.get(clientId)! - 1
    if (claimed === 0) share.claims.delete(clientId)
    else share.claims.set(clientId, claimed)
    share.count -= 1
    if (share.count === 0) this.#networks.delete(network)
    this.#count -= 1
  }
}

/** The network is the widest that limits count, so that an IPv6 network of 65 536 smaller ones counts as one. */
export function claimOf(clientId: string, address: string | undefined): Claim {
  return { clientId, network: networksOf(address).at(-1)! }
}

/** Addresses that are remembered, and clients for each; beyond this, the oldest is dropped. */
const mostAddresses = 10_000
const mostClients = 1_000

/**
 * The addresses from which clients have authenticated. Only successes are remembered, so strangers cannot displace them. By
 * exact IPv4 address, since neighbours may be strangers; in IPv6 by the /64, which belongs to one caller.
 */
export class ProvenCallers {
  readonly #addresses = new Map<string, Set<string>>()

  has(clientId: string, address: string | undefined): boolean {
    return address !== undefined && this.#addresses.get(networkOf(address))?.has(clientId) === true
  }

  add(clientId: string, address: string | undefined): void {
    if (address === undefined || this.has(clientId, address)) return
    const clients = this.#addresses.get(networkOf(address)) ?? new Set()
    if (clients.size >= mostClients) clients.delete(clients.values().next().value!)
    clients.add(clientId)
    if (clients.size > 1) return
    if (this.#addresses.size >= mostAddresses) this.#addresses.delete(this.#addresses.keys().next().value!)
    this.#addresses.set(networkOf(address), clients)
  }
}
