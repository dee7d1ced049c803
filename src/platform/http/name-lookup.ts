/**
 * Resolves names of receivers through `dns.Resolver`. The system's own lookup (`getaddrinfo`) cannot be cancelled, and libuv
 * runs few of them at the same time: one receiver whose name server is silent would block all new connections. A lookup here
 * ends by the deadline, each receiver has a share of the lookups under way, and a name that could not be resolved is not
 * tried again for a while.
 */
import { getDefaultResultOrder } from 'node:dns'
import { Resolver } from 'node:dns/promises'
import { isIP } from 'node:net'
import type { Clock } from '../clock.ts'
import { Failures } from './failures.ts'
import { Places } from './places.ts'
import { type Address, createSystemNames, type NameFiles } from './system-names.ts'

export interface NameLookupOptions {
  /** Milliseconds for one lookup, including the wait for a place. */
  timeoutMs: number
  clock: Clock
  /** For tests: the name servers to ask, for instance `127.0.0.1:5353`, instead of those of the system. */
  servers?: string[] | undefined
  /** For tests: instead of the system's files. */
  files?: NameFiles | undefined
}

export interface NameLookup {
  /**
   * Resolves to all addresses of a name. Simultaneous lookups of one name are shared.
   *
   * @throws an error with a `code`: `ENOTFOUND`, `ENODATA`, `ETIMEOUT` and others of `node:dns`
   */
  resolve(name: string): Promise<Address[]>
  /** Returns the number of lookups that ask a name server now. */
  underWay(): number
  /** Ends the lookups that are under way. */
  close(): void
}

/** Most lookups under way: for the names of one receiver, and in all. Each costs a socket or two. */
export const lookupLimits = { each: 8, inAll: 256 }

/** Pauses after a failed lookup: no longer than the outbox waits between attempts. */
const failurePauses = { firstPauseMs: 500, longestPauseMs: 30_000, most: 10_000 }

export function createNameLookup({ timeoutMs, clock, servers, files }: NameLookupOptions): NameLookup {
  const system = createSystemNames(files)
  const places = new Places(lookupLimits)
  const failures = new Failures({ ...failurePauses, clock })
  const shared = new Map<string, Promise<Address[]>>()
  const underWay = new Set<AbortController>()

  /** Uses a resolver of its own, which can be cancelled separately and uses the name servers that are configured now. */
  async function ask(name: string, signal: AbortSignal): Promise<Address[]> {
    // Two attempts at most, the second twice as long: a silent server is noticed before the deadline.
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
      // The wait for a place may also take too long. That is not the name's fault, and not remembered as a failure.
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
 * Asks for both families. Once one has returned addresses, the other has `graceMs` left, because some name servers never
 * answer for IPv6. Addresses that arrive later are not used.
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
 * Orders IPv6 before IPv4; without IPv6, connecting to it fails at once. Node's `--dns-result-order=ipv4first` reverses it.
 */
function inDefaultOrder(addresses: Address[]): Address[] {
  return getDefaultResultOrder() === 'ipv4first' ? addresses.toSorted((a, b) => a.family - b.family) : addresses
}

/** Whether the name server answered that there is no address. */
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
 * Returns the receiver that a name counts for: roughly the registered domain, so that a receiver with a thousand names counts
 * once. Under a short second level (`co.uk`, `com.au`) that is one label more. An IP address counts for itself.
 */
export function receiverOf(name: string): string {
  if (isIP(name) !== 0) return name
  const labels = name.replace(/\.$/, '').split('.')
  const [second = '', top = ''] = labels.slice(-2)
  return labels.slice(top.length === 2 && second.length <= 3 ? -3 : -2).join('.')
}
