/**
 * Fetches documents from URLs that clients have chosen: key sets (`jwks_uri`), and lists of URIs
 * (`sector_identifier_uri`). An anonymous caller can cause a fetch, so everything is limited:
 *
 * - There is one fetch at a time for each URL, shared by all callers that wait for the document.
 * - The number of fetches under way is limited for each network whose calls cause them, for each receiver
 *   (`receiverOf`), and in all.
 * - The number of waiting callers is limited. A waiting call holds no slot (`load-shedding.ts`).
 * - A failed fetch is not repeated for a while.
 */
import type { Clock } from '../clock.ts'
import { networksOf } from './address.ts'
import { type Bound, Bounds } from './bounds.ts'
import { Failures } from './failures.ts'
import type { LoadShedding, Slot } from './load-shedding.ts'
import { receiverOf } from './name-lookup.ts'

export interface Fetches<Document> {
  /**
   * Resolves to the document at `url`.
   *
   * @param slot the load-shedding slot of the call that waits; it is released during the wait
   * @throws {Overloaded} if a limit is reached
   * @throws the error of the fetch if it fails. In the pause after a failed fetch, no fetch is made, and the error of
   *   the failed fetch is thrown
   */
  get(url: string, slot: Slot | undefined): Promise<Document>
  /**
   * Throws if the document must not be fetched again yet.
   *
   * @throws the error of the last fetch, if the pause after it has not ended
   */
  throwIfPaused(url: string): void
  /** Returns for how many milliseconds the document must not be fetched again; 0 if it may be fetched now. */
  pauseLeft(url: string): number
  /** Returns the number of fetches under way, and of callers that wait for a fetch. */
  count(): { underWay: number; waiting: number }
}

export interface FetchNeeds<Document> {
  load(url: string): Promise<Document>
  releaseSlotWhile: LoadShedding['releaseSlotWhile']
  clock: Clock
}

/** Upper limits. A network is the /24 of an IPv4 address; in IPv6, the /64 and the /48 are counted separately. */
export const fetchLimits = {
  underWay: { eachNetwork: 8, eachReceiver: 8, inAll: 256 },
  waiting: { eachNetwork: 100, eachUrl: 200, eachNetworkAndUrl: 20, inAll: 1000 },
}

/** Pauses after a failed fetch. After half a minute at the latest, the URL may be fetched again. */
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
    // The waiting callers handle an error of the fetch. This line prevents an unhandled rejection if no caller waits
    // any more.
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
    pauseLeft: (url) => failures.pauseLeft(url),
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
