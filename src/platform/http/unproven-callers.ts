/**
 * Limits the calls in progress of unproven callers, that is, callers that have not authenticated yet. Each such call
 * needs a slot (`load-shedding.ts`). The number of slots is limited for each network and, within a network, for each
 * `client_id` that callers send. So an attacker who sends the `client_id` of a client takes no slots from that client
 * in other networks, and none from other clients in the attacker's network.
 *
 * If a client has authenticated from an address before, its calls from there are counted for the client from the
 * beginning, and these limits do not apply.
 */
import { networkOf, networksOf } from './address.ts'
import { ClientShares, type Share } from './client-shares.ts'
import { copyOf } from './outside-text.ts'

export interface Claim {
  network: string
  clientId: string
}

interface NetworkShare {
  count: number
  /** The number of callers, by the `client_id` that they send. */
  claims: Map<string, number>
}

/** Counts the calls of unproven callers to one group of routes: those that clients call, or all others. */
export class UnprovenCallers {
  readonly #networks = new Map<string, NetworkShare>()
  readonly #most: number
  #count = 0

  /** @param most the maximum number of slots that the group may use at the same time */
  constructor(most: number) {
    this.#most = most
  }

  /** The number of unproven callers that hold a slot now. */
  get count(): number {
    return this.#count
  }

  /**
   * Returns whether there is capacity for one more caller. There is always capacity while unproven callers hold less
   * than a quarter of the slots. Above this quarter, a network may have half of the slots, divided by the number of
   * networks with such callers. Within a network, a `client_id` may have two thirds of the slots of the network,
   * divided by the number of different ids that callers send from this network. The last quarter of the slots is
   * reserved for callers that have authenticated, and for `ReturningUsers`.
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

/**
 * Counts, in one group of routes, the calls of users who have signed in before, but are not authenticated in this call
 * yet. Such a call contains a cookie that this server has encrypted, or a token that this process knows. These calls
 * may use an eighth of the slots: half of the quarter that unproven callers cannot take. So a user can renew a token
 * even if unproven callers have taken all slots that they may take.
 */
export class ReturningUsers {
  readonly #users = new ClientShares()
  readonly #most: number
  #count = 0

  /** @param most the maximum number of slots that the group may use at the same time */
  constructor(most: number) {
    this.#most = most / 8
  }

  /**
   * Returns whether there is capacity for one more call of a user. One user may have half of the capacity for returning
   * users, divided by the number of these users.
   */
  hasCapacity(userId: string): boolean {
    const ofUser = this.#most / 2 / this.#users.clientsWith(userId)
    return this.#count < Math.max(1, this.#most) && this.#users.inWorkOf(userId) < Math.max(1, ofUser)
  }

  enter(userId: string): Share {
    this.#count += 1
    return this.#users.enter(userId)
  }

  leave(share: Share): void {
    this.#count -= 1
    this.#users.leave(share)
  }
}

/** Returns the network of a caller and its `client_id`. In IPv6, this is the /48: all /64 in the /48 count as one. */
export function claimOf(clientId: string, address: string | undefined): Claim {
  return { clientId, network: networksOf(address).at(-1)! }
}

/** Upper limit for the addresses that are remembered. Beyond this limit, the oldest address is dropped. */
const mostAddresses = 10_000
/** Upper limit for the clients that are remembered for one address. Beyond this limit, the oldest client is dropped. */
const mostClients = 1_000

/**
 * The addresses from which clients have authenticated. Only successful authentications are remembered, so anonymous
 * callers cannot displace entries. In IPv4 the exact address is compared, because neighbouring addresses may belong to
 * other callers. In IPv6 the /64 is compared, which belongs to one caller.
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
    clients.add(copyOf(clientId))
    if (clients.size > 1) return
    if (this.#addresses.size >= mostAddresses) this.#addresses.delete(this.#addresses.keys().next().value!)
    this.#addresses.set(networkOf(address), clients)
  }
}
