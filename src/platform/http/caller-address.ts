/** Which address a call comes from, where proxies stand before the server. */
import type { IncomingMessage } from 'node:http'
import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { isWithin, plainAddress, rangesOf } from './address.ts'

/** Stands for an address that cannot be told: it is in no range, and all who have it are one network for limits. */
export const UNKNOWN_ADDRESS = 'unknown'

declare module 'fastify' {
  interface FastifyRequest {
    /** What `ip` says, once somebody has asked. */
    callerAddress: string | undefined
  }
}

/** As much of a call as is needed. */
export type AddressedCall = Pick<IncomingMessage, 'headers'> & { socket: { remoteAddress?: string | undefined } }

/**
 * Makes `request.ip` the caller's address, in its canonical form. Fastify's own `trustProxy` is to be left off: it takes
 * an entry that is no address for one, with its port for instance.
 *
 * @param trusted addresses and ranges of the proxies whose `X-Forwarded-For` is believed
 */
export function nameCallers(app: FastifyInstance, trusted: readonly string[]): void {
  const addressOf = createCallerAddress(trusted)
  app.decorateRequest('callerAddress', undefined)
  app.decorateRequest('ip', {
    getter() {
      this.callerAddress ??= addressOf(this.raw)
      return this.callerAddress
    },
  })
}

/**
 * Each proxy adds the address it was called from at the right end of `X-Forwarded-For`. So the header is read from
 * there, hop by hop, as long as the hop before is a trusted proxy; the first that is none is the caller. What stands
 * left of it the caller has written, and means nothing. A hop that is reached and is no address leaves the caller
 * unknown: taking the last proxy instead would give the caller what the proxy may do.
 */
export function createCallerAddress(trusted: readonly string[]): (call: AddressedCall) => string {
  const proxies = rangesOf(trusted)
  /** A connection has one peer, whatever comes over it. */
  const peers = new WeakMap<object, string | undefined>()

  function peerOf(socket: AddressedCall['socket']): string | undefined {
    const known = peers.get(socket)
    if (known !== undefined) return known
    const peer = readAddress(socket.remoteAddress ?? '')
    peers.set(socket, peer)
    return peer
  }

  return ({ socket, headers }) => {
    const peer = peerOf(socket)
    const forwarded = headers['x-forwarded-for']
    if (peer === undefined) return UNKNOWN_ADDRESS
    if (forwarded === undefined) return peer
    // Node joins several lines of the header with commas.
    const entries = String(forwarded)
    let hop = peer
    let end = entries.length
    while (end >= 0 && isWithin(hop, proxies)) {
      const start = end === 0 ? -1 : entries.lastIndexOf(',', end - 1)
      const before = readAddress(withoutPort(entries.slice(start + 1, end).trim()))
      if (before === undefined) return UNKNOWN_ADDRESS
      hop = before
      end = start
    }
    return hop
  }
}

/** Some proxies add the port: `192.0.2.7:4711`, `[2001:db8::7]:4711`. */
function withoutPort(entry: string): string {
  const [, v4, v6] = /^(?:(\d[\d.]+):\d{1,5}|\[([\d:a-f.%]+)\](?::\d{1,5})?)$/i.exec(entry) ?? []
  if (v4 !== undefined) return v4
  return v6 === undefined ? entry : isIPv6(v6) ? v6 : ''
}

/**
 * One spelling for each address: IPv6 compressed and in lower case, without the zone (which means something on one
 * machine only), an IPv4 address as itself where it is mapped into IPv6. Nothing if it is none.
 */
function readAddress(text: string): string | undefined {
  if (isIPv4(text)) return text
  if (!isIPv6(text)) return undefined
  const [address = ''] = text.split('%')
  return plainAddress(new SocketAddress({ address, family: 'ipv6' }).address)
}
