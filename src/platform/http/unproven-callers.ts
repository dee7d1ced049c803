/**
 * Callers that have yet to prove which client they are. Their shares go by the network they call from and, within it, by
 * the client they claim to be: a stranger who claims to be a client takes nothing from that client, which calls from
 * another network, and nothing from other clients that call from the same one. Whoever has proven before, from this
 * address, to be the client is counted as that client at once, and takes no part in what strangers share.
 */
import { networkOf, networksOf } from './address.ts'

export interface Claim {
  network: string
  clientId: string
}

interface NetworkShare {
  count: number
  /** By the client that is claimed. */
  claims: Map<string, number>
}

/** Counts of one lane. */
export class UnprovenCallers {
  readonly #networks = new Map<string, NetworkShare>()
  readonly #most: number
  #count = 0

  /** @param most places of the lane */
  constructor(most: number) {
    this.#most = most
  }

  /** Unproven callers that hold a place now. */
  get count(): number {
    return this.#count
  }

  /**
   * Whether there is room for one more. A quarter of the lane is for all; then a network may have half of the lane,
   * divided by the number of networks, and a claimed client two thirds of that, divided by the number of clients that are
   * claimed from there. Beyond three quarters there is none: the last quarter is for those who have proven themselves.
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

/** The network is the widest that limits count, so that an IPv6 network of 65 536 smaller ones is one. */
export function claimOf(clientId: string, address: string | undefined): Claim {
  return { clientId, network: networksOf(address).at(-1)! }
}

/** Addresses that are remembered, and clients for each; of more, the one remembered longest is forgotten. */
const mostAddresses = 10_000
const mostClients = 1_000

/**
 * From which addresses clients have proven themselves. Only who has proven itself is remembered, so strangers cannot
 * make it forget. By exact IPv4 address, since neighbours may be strangers; of IPv6 by the 2⁶⁴ that are one caller's.
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
