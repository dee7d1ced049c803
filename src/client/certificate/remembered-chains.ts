/**
 * Remembers whether a trusted authority has issued a certificate. So the signatures of a chain are not verified at each
 * call, but once for a TLS connection or for a header of a proxy. The trusted authorities come from the configuration,
 * so they do not change while the server runs.
 */
import type { X509Certificate } from 'node:crypto'
import { type PresentedCertificates, trustedChain } from './chain.ts'

/** Returns the same as `trustedChain` does for the current time. */
export type FindChain = (presented: PresentedCertificates) => X509Certificate[] | undefined

interface Remembered {
  chain: X509Certificate[] | undefined
  /** `chain` stays the right result from `since` (inclusive) to `until` (exclusive), in milliseconds since 1970. */
  since: number
  until: number
}

/**
 * Returns the function that finds chains. The function remembers the result for the object `presented` as long as this
 * object exists. It also remembers that there is no chain. After the certificate of an authority has become valid or
 * expired, the function looks for a chain again.
 */
export function createFindChain(authorities: readonly X509Certificate[], now: () => number): FindChain {
  const remembered = new WeakMap<PresentedCertificates, Remembered>()
  const changesOfAuthorities = authorities.flatMap(changesOf)

  return (presented) => {
    const at = now()
    const known = remembered.get(presented)
    if (known !== undefined && known.since <= at && at < known.until) return known.chain
    const chain = trustedChain(presented, authorities, at)
    const changes = [...changesOfAuthorities, ...presented.others.flatMap(changesOf)]
    remembered.set(presented, {
      chain,
      since: Math.max(...changes.filter((change) => change <= at)),
      until: Math.min(...changes.filter((change) => change > at)),
    })
    return chain
  }
}

/** Returns the times at which a certificate begins and ceases to be valid (`isValidAt`). */
function changesOf({ validFromDate, validToDate }: X509Certificate): number[] {
  return [validFromDate.getTime(), validToDate.getTime() + 1]
}

/**
 * Maximum number of remembered headers. Only headers with a certificate of a trusted authority are remembered, so that
 * anonymous callers cannot displace them.
 */
const mostHeaders = 2_000

/** Remembers the certificates of headers. The header that was used last is at the end. */
export function createHeaderMemory(most = mostHeaders) {
  const headers = new Map<string, PresentedCertificates>()

  return {
    find(header: string): PresentedCertificates | undefined {
      const known = headers.get(header)
      if (known === undefined) return undefined
      headers.delete(header)
      headers.set(header, known)
      return known
    },

    /** @param header the text of the certificate header and of the chain header, as the key */
    keep(header: string, presented: PresentedCertificates): void {
      headers.set(header, presented)
      if (headers.size > most) headers.delete(headers.keys().next().value!)
    },
  }
}
