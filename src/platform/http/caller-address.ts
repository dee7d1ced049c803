/** Determines the address of a caller that calls through proxies. */
import type { IncomingMessage } from 'node:http'
import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { isWithin, plainAddress, rangesOf } from './address.ts'
import { copyOf } from './outside-text.ts'

/**
 * The text that replaces an unknown address. It is in no range of addresses. For limits, all callers with unknown
 * addresses count as one network.
 */
export const UNKNOWN_ADDRESS = 'unknown'

declare module 'fastify' {
  interface FastifyRequest {
    /** The cached value of `request.ip`. */
    callerAddress: string | undefined
  }
}

/** The part of a call from which the address is determined. */
export type AddressedCall = Pick<IncomingMessage, 'headers'> & { socket: { remoteAddress?: string | undefined } }

/**
 * Makes `request.ip` the caller's address, in its canonical form. Fastify's own `trustProxy` must stay off: it accepts
 * entries that are not addresses, for instance entries with a port.
 *
 * @param trusted addresses and ranges of the proxies whose `X-Forwarded-For` is trusted
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
 * Returns a function that determines the address of a caller.
 *
 * Each proxy appends to `X-Forwarded-For` the address that called the proxy. So the header is read from the right,
 * entry by entry, as long as the previous address belongs to a trusted proxy. The first address that does not belong to
 * a trusted proxy is the caller's. All entries to the left of this address were written by the caller and are ignored.
 * If an entry that is read is not an address, the result is `UNKNOWN_ADDRESS`. The result must not be the address of a
 * trusted proxy, because the caller would then get the rights of the proxy.
 */
export function createCallerAddress(trusted: readonly string[]): (call: AddressedCall) => string {
  const proxies = rangesOf(trusted)
  return ({ socket, headers }) => {
    const peer = peerOf(socket)
    const forwarded = headers['x-forwarded-for']
    if (peer === undefined) return UNKNOWN_ADDRESS
    if (forwarded === undefined) return peer
    // If the header occurs several times, Node joins the values with commas.
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

const peerAddress = Symbol('peerAddress')

/** Returns the address of the peer. It is cached with the connection, because it does not change. */
function peerOf(socket: AddressedCall['socket'] & { [peerAddress]?: string | undefined }): string | undefined {
  socket[peerAddress] ??= readAddress(socket.remoteAddress ?? '')
  return socket[peerAddress]
}

/** Removes the port, which some proxies add: `192.0.2.7:4711`, `[2001:db8::7]:4711`. */
function withoutPort(entry: string): string {
  const [, v4, v6] = /^(?:(\d[\d.]+):\d{1,5}|\[([\d:a-f.%]+)\](?::\d{1,5})?)$/i.exec(entry) ?? []
  if (v4 !== undefined) return v4
  return v6 === undefined ? entry : isIPv6(v6) ? v6 : ''
}

/**
 * Returns the canonical spelling of an address. An IPv6 address is compressed and in lower case, without its zone
 * (which has a meaning only on one machine). A mapped IPv4 address becomes IPv4. Returns undefined if the text is not
 * an address.
 */
function readAddress(text: string): string | undefined {
  // The text may be a part of a header. It is copied, because a part of a text keeps the whole text in memory.
  if (isIPv4(text)) return copyOf(text)
  if (!isIPv6(text)) return undefined
  const [address = ''] = text.split('%')
  return plainAddress(new SocketAddress({ address, family: 'ipv6' }).address)
}
