/**
 * Documents that clients name and the server fetches: key sets, lists of a sector. An unauthenticated caller can cause a
 * fetch, so everything is limited: one fetch at a time for an address, shared by all callers that wait for it; the fetches
 * under way for each network that caused them, for each receiver, and in all; the waiting callers; and a failed fetch is not
 * repeated for a while. A waiting call holds no slot.
 */
import type { Clock } from '../clock.ts'
import { networksOf } from './address.ts'
import { type Bound, Bounds } from './bounds.ts'
import { Failures } from './failures.ts'
import type { LoadShedding, Slot } from './load-shedding.ts'
import { receiverOf } from './name-lookup.ts'

export interface Fetches<Document> {
  /**
   * @param slot of the call that waits
   * @throws {Overloaded} beyond a limit
   * @throws the error of the fetch, or of one that failed shortly before
   */
  get(url: string, slot: Slot | undefined): Promise<Document>
  /** @throws the error of the last fetch, while its pause lasts */
  throwIfPaused(url: string): void
  /** Fetches under way, and callers that wait for one. */
  count(): { underWay: number; waiting: number }
}

export interface FetchNeeds<Document> {
  load(url: string): Promise<Document>
  releaseSlotWhile: LoadShedding['releaseSlotWhile']
  clock: Clock
}

/** A network is the /24 of an IPv4 address, or the /64 and the /48 of an IPv6 address, each counted separately. */
export const fetchLimits = {
  underWay: { eachNetwork: 8, eachReceiver: 8, inAll: 256 },
  waiting: { eachNetwork: 100, eachUrl: 200, eachNetworkAndUrl: 20, inAll: 1000 },
}

/** Recovery is noticed within half a minute. */
const failurePauses = { firstPauseMs: 1_000, longestPauseMs: 30_000, most: 10_000 }

export function createFetches<Document>({ load, releaseSlotWhile, clock }: FetchNeeds<Document>): Fetches<Document> {
  const shared = new Map<string, Promise<Document>>()
  const underWay = new Bounds(fetchLimits.underWay.inAll)
  const waiting = new Bounds(fetchLimits.waiting.inAll)
  const failures = new Failures({ ...failurePauses, clock })

  async function fetchOnce(url: string): Promise<Document> {
    try {
      const document = await load(url)
      failures.worked(url)
      return document
    } catch (error) {
      failures.failed(url, error)
      throw error
    } finally {
      shared.delete(url)
    }
  }

  function begin(url: string, address: string | undefined): Promise<Document> {
    const leave = underWay.enter(boundsOfFetch(url, address))
    const fetching = fetchOnce(url).finally(leave)
    // Callers that wait handle the error; there may be none.
    fetching.catch(() => {})
    shared.set(url, fetching)
    return fetching
  }

  return {
    async get(url, slot) {
      const address = slot?.address
      if (!shared.has(url)) failures.throwIfPaused(url)
      const leave = waiting.enter(boundsOfWaiting(url, address))
      try {
        return await releaseSlotWhile(slot, shared.get(url) ?? begin(url, address))
      } finally {
        leave()
      }
    },
    throwIfPaused: (url) => failures.throwIfPaused(url),
    count: () => ({ underWay: underWay.count, waiting: waiting.count }),
  }
}

function boundsOfFetch(url: string, address: string | undefined): Bound[] {
  const { eachNetwork, eachReceiver } = fetchLimits.underWay
  const ofNetworks = networksOf(address).map((network) => ({ key: network, most: eachNetwork }))
  return [...ofNetworks, { key: receiverOf(URL.parse(url)?.hostname ?? ''), most: eachReceiver }]
}

function boundsOfWaiting(url: string, address: string | undefined): Bound[] {
  const { eachNetwork, eachUrl, eachNetworkAndUrl } = fetchLimits.waiting
  const ofNetworks = networksOf(address).flatMap((network) => [
    { key: network, most: eachNetwork },
    { key: `${network} ${url}`, most: eachNetworkAndUrl },
  ])
  return [...ofNetworks, { key: url, most: eachUrl }]
}
