/**
 * Names of receivers to addresses, asked of the name servers by us. The system's own lookup (`getaddrinfo`) cannot be
 * ended, and libuv runs few of them at the same time: one receiver whose name server is silent would stop everybody's
 * new connections. A lookup here ends by the deadline, a receiver has its share of those under way, and a name that
 * could not be resolved is left alone for a while.
 */
import { getDefaultResultOrder } from 'node:dns'
import { Resolver } from 'node:dns/promises'
import { isIP } from 'node:net'
import type { Clock } from '../clock.ts'
import { Failures } from './failures.ts'
import { Places } from './places.ts'
import { type Address, createSystemNames, type NameFiles } from './system-names.ts'

export interface NameLookupOptions {
  /** Milliseconds for one lookup, waiting for a place included. */
  timeoutMs: number
  clock: Clock
  /** For tests: who is asked, `127.0.0.1:5353` say, instead of the name servers of the system. */
  servers?: string[] | undefined
  /** For tests: in the place of the system's files. */
  files?: NameFiles | undefined
}

export interface NameLookup {
  /**
   * All addresses of a name. Lookups of one name at the same time are one.
   *
   * @throws an error with a `code`: `ENOTFOUND`, `ENODATA`, `ETIMEOUT` and others of `node:dns`
   */
  resolve(name: string): Promise<Address[]>
  /** Lookups that ask a name server now. */
  underWay(): number
  /** Ends the lookups that are under way. */
  close(): void
}

/** Lookups under way: for the names of one receiver, and in all. Each costs a socket or two. */
export const lookupLimits = { each: 8, inAll: 256 }

/** How long a name that could not be resolved is left alone: no longer than the outbox waits between its tries. */
const failurePauses = { firstPauseMs: 500, longestPauseMs: 30_000, most: 10_000 }

export function createNameLookup({ timeoutMs, clock, servers, files }: NameLookupOptions): NameLookup {
  const system = createSystemNames(files)
  const places = new Places(lookupLimits)
  const failures = new Failures({ ...failurePauses, clock })
  const shared = new Map<string, Promise<Address[]>>()
  const underWay = new Set<AbortController>()

  /** With its own resolver: to be ended without ending others, and with the name servers as they are configured now. */
  async function ask(name: string, signal: AbortSignal): Promise<Address[]> {
    // Twice at most, the second time twice as long: one server that is silent is noticed before the deadline.
    const resolver = new Resolver({ timeout: Math.ceil(timeoutMs / 4), tries: 2 })
    if (servers !== undefined) resolver.setServers(servers)
    const cancel = () => resolver.cancel()
    signal.addEventListener('abort', cancel, { once: true })
    try {
      return await askForBoth(resolver, name, timeoutMs / 4)
    } finally {
      signal.removeEventListener('abort', cancel)
    }
  }

  async function askInTurn(name: string, signal: AbortSignal): Promise<Address[]> {
    let failure: unknown
    for (const candidate of system.candidatesFor(name)) {
      try {
        return await ask(candidate, signal)
      } catch (error) {
        // A name server that does not answer would not answer for the next name either.
        if (signal.aborted) throw signal.reason
        if (codeOf(error) === 'ETIMEOUT') throw error
        failure ??= error
      }
    }
    throw failure
  }

  async function lookUp(name: string): Promise<Address[]> {
    const ending = new AbortController()
    const timer = setTimeout(() => ending.abort(timedOut(name)), timeoutMs)
    underWay.add(ending)
    try {
      // Waiting for a place may take too long, too. That is no fault of the name, and not remembered.
      const leave = await places.enter(receiverOf(name), ending.signal)
      return await askOrRemember(name, ending.signal).finally(leave)
    } finally {
      clearTimeout(timer)
      underWay.delete(ending)
    }
  }

  async function askOrRemember(name: string, signal: AbortSignal): Promise<Address[]> {
    try {
      const addresses = await askInTurn(name, signal)
      failures.worked(name)
      return addresses
    } catch (error) {
      failures.failed(name, error)
      throw error
    }
  }

  return {
    async resolve(name) {
      const plain = name.toLowerCase()
      const known = system.addressesOf(plain.replace(/\.$/, ''))
      if (known !== undefined) return known
      const before = shared.get(plain)
      if (before !== undefined) return before
      failures.throwIfPaused(plain)
      const lookup = lookUp(plain).finally(() => shared.delete(plain))
      shared.set(plain, lookup)
      return lookup
    },
    underWay: () => places.taken,
    close() {
      for (const ending of underWay) ending.abort(timedOut('a name that is not needed any more'))
    },
  }
}

/**
 * Both families are asked for. When one has answered with addresses, the other has `graceMs` left: there are name
 * servers that never answer for IPv6. What has not been answered is not connected to.
 */
async function askForBoth(resolver: Resolver, name: string, graceMs: number): Promise<Address[]> {
  let grace: NodeJS.Timeout | undefined
  const begin = (addresses: string[]) => {
    if (addresses.length > 0) grace ??= setTimeout(() => resolver.cancel(), graceMs)
    return addresses
  }
  const [six, four] = await Promise.allSettled([
    resolver.resolve6(name).then(begin),
    resolver.resolve4(name).then(begin),
  ])
  clearTimeout(grace)
  const found = [...addressesIn(six, 6), ...addressesIn(four, 4)]
  if (found.length > 0) return inDefaultOrder(found)
  const errors = [four, six].flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []))
  throw errors.find((error) => !meansNone(error)) ?? errors[0] ?? Object.assign(new Error(name), { code: 'ENODATA' })
}

function addressesIn(answer: PromiseSettledResult<string[]>, family: 4 | 6): Address[] {
  return answer.status === 'fulfilled' ? answer.value.map((address) => ({ address, family })) : []
}

/**
 * IPv6 before IPv4, as on machines that have both; where there is no IPv6, connecting to it fails at once. Node's
 * `--dns-result-order=ipv4first` turns it round.
 */
function inDefaultOrder(addresses: Address[]): Address[] {
  return getDefaultResultOrder() === 'ipv4first' ? addresses.toSorted((a, b) => a.family - b.family) : addresses
}

/** Whether the name server has answered, and there is nothing. */
function meansNone(error: unknown): boolean {
  return ['ENOTFOUND', 'ENODATA'].includes(codeOf(error))
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

function timedOut(name: string): Error {
  return Object.assign(new Error(`no name server answered for ${name} in time`), { code: 'ETIMEOUT' })
}

/**
 * Whose names share their lookups: about the domain somebody has registered, so that one receiver with a thousand names
 * is one receiver. Under a short second level (`co.uk`, `com.au`) that is one label more. An address is its own.
 */
export function receiverOf(name: string): string {
  if (isIP(name) !== 0) return name
  const labels = name.replace(/\.$/, '').split('.')
  const [second = '', top = ''] = labels.slice(-2)
  return labels.slice(top.length === 2 && second.length <= 3 ? -3 : -2).join('.')
}
