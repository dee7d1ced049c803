/**
 * Resolves host names with `dns.Resolver`. The names of one registered domain belong to one receiver (`receiverOf`).
 *
 * The system's own lookups (`getaddrinfo`) are not used: they cannot be cancelled, and libuv runs few of them at the
 * same time. One receiver whose name server does not respond would block all new connections.
 *
 * The lookups in this file have a deadline, and a name that could not be resolved is not tried again for a while. The
 * number of lookups under way is limited for each receiver, for all receivers that are not known yet, and for all
 * receivers whose name servers do not answer. So places are left for known receivers.
 */
import { getDefaultResultOrder } from 'node:dns'
import { Resolver } from 'node:dns/promises'
import { isIP } from 'node:net'
import { type Clock, steadyTime } from '../clock.ts'
import { Failures } from './failures.ts'
import { Places } from './places.ts'
import { type Address, createSystemNames, type NameFiles } from './system-names.ts'

export interface NameLookupOptions {
  /** Milliseconds for one lookup, including the wait for a place. */
  timeoutMs: number
  clock: Clock
  /** For tests: name servers that are asked instead of the system's, for instance `127.0.0.1:5353`. */
  servers?: string[] | undefined
  /** For tests: files that are read instead of the system's. */
  files?: NameFiles | undefined
}

export interface NameLookup {
  /**
   * Resolves to all addresses of a name. Simultaneous calls for one name share one lookup.
   *
   * @throws an error with a `code`: `ENOTFOUND`, `ENODATA`, `ETIMEOUT` and others of `node:dns`
   */
  resolve(name: string): Promise<Address[]>
  /** Returns the number of lookups that ask a name server now. */
  underWay(): number
  /** Ends the lookups that are under way. */
  close(): void
}

/**
 * Upper limits for the lookups under way: for one receiver (`each`), for all receivers of which no name has been
 * resolved yet (`new`), for all receivers whose name servers did not answer lately (`silent`), and in all. A lookup
 * uses one or two sockets.
 */
export const lookupLimits = { each: 8, new: 128, silent: 64, inAll: 256 }

/**
 * A lookup that has no answer after this many milliseconds is counted in the group of silent receivers. If this group
 * has no place left, the lookup is aborted. So a lookup that hangs takes a place of the new or known receivers for at
 * most this time.
 */
export const quickMs = 1_000

/**
 * A receiver counts as silent for `forMs` milliseconds after a lookup that got no answer. Answers for other names of
 * the receiver do not shorten this time: a name server that answers for only some names must also count as silent. At
 * most `most` receivers are remembered.
 */
const silence = { forMs: 5 * 60_000, most: 10_000 }
/** A receiver is known after one of its names was resolved. At most `most` receivers are remembered. */
const acquaintance = { forMs: Number.POSITIVE_INFINITY, most: 10_000 }

/** Pauses after a failed lookup. They are not longer than the pauses between two attempts to deliver a notification. */
const failurePauses = { firstPauseMs: 500, longestPauseMs: 30_000, most: 10_000 }

export function createNameLookup({ timeoutMs, clock, servers, files }: NameLookupOptions): NameLookup {
  const system = createSystemNames(files)
  const receivers = createReceiverGroups(clock)
  const places = new Places({ ...lookupLimits, groups: { of: receivers.groupOf, most: lookupLimits } })
  const failures = new Failures({ ...failurePauses, clock })
  const shared = new Map<string, Promise<Address[]>>()
  const underWay = new Set<AbortController>()

  /**
   * Asks the name servers with a new `Resolver` for each lookup. So one lookup can be cancelled without the others, and
   * each lookup uses the current name servers of the system.
   */
  async function ask(name: string, signal: AbortSignal): Promise<Address[]> {
    // `Resolver` waits twice as long at its second attempt. With several silent servers, the deadline ends the lookup.
    const resolver = new Resolver({ timeout: Math.ceil(timeoutMs / 4), tries: 2 })
    if (servers !== undefined) resolver.setServers(servers)
    signal.addEventListener('abort', () => resolver.cancel(), { once: true })
    return askForBoth(resolver, name, { graceMs: timeoutMs / 4, clock })
  }

  async function askInTurn(name: string, signal: AbortSignal): Promise<Address[]> {
    let failure: unknown
    for (const candidate of system.candidatesFor(name)) {
      try {
        return await ask(candidate, signal)
      } catch (error) {
        // After a timeout, the next candidate is not tried, because it would probably get no answer either.
        if (signal.aborted) throw signal.reason
        if (codeOf(error) === 'ETIMEOUT') throw error
        failure ??= error
      }
    }
    throw failure
  }

  async function lookUp(name: string): Promise<Address[]> {
    const receiver = receiverOf(name)
    const ending = new AbortController()
    const cancelDeadline = clock.after(timeoutMs, () => ending.abort(timedOut(name)))
    underWay.add(ending)
    try {
      // If the deadline passes during the wait for a place, this does not count as a failure of the name. So a later
      // call may try again at once.
      const place = await places.enter(receiver, ending.signal)
      const cancelTimer = clock.after(quickMs, () => {
        if (!place.moveTo('silent')) ending.abort(cutShort(name))
      })
      return await askOrRemember(name, ending.signal).finally(() => {
        cancelTimer()
        place.leave()
      })
    } finally {
      cancelDeadline()
      underWay.delete(ending)
    }
  }

  async function askOrRemember(name: string, signal: AbortSignal): Promise<Address[]> {
    const begunAt = steadyTime(clock)
    try {
      const addresses = await askInTurn(name, signal)
      failures.worked(name)
      receivers.isKnown(receiverOf(name))
      return addresses
    } catch (error) {
      failures.failed(name, error)
      // If an aborted lookup already had addresses of one family, it resolves to them, and this line does not run.
      if (codeOf(error) === 'ECANCELLED') receivers.wasCutShort(receiverOf(name), begunAt)
      if (codeOf(error) === 'ETIMEOUT') receivers.isSilent(receiverOf(name))
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

function createReceiverGroups(clock: Clock) {
  const silent = createReceivers({ ...silence, clock })
  const known = createReceivers({ ...acquaintance, clock })
  const forgiven = createReceivers({ ...silence, clock })
  return {
    isKnown: known.add,
    isSilent: silent.add,
    /**
     * Records that a lookup was aborted to free its place before any address was found. The first aborted lookup within
     * `silence.forMs` is only remembered, because a packet may have been lost. If a second lookup is aborted, and it
     * began after the first was aborted, the receiver counts as silent, even if its name servers answered in between.
     */
    wasCutShort(receiver: string, begunAt: number): void {
      const forgivenAt = forgiven.addedAt(receiver)
      if (forgivenAt === undefined) forgiven.add(receiver)
      else if (begunAt >= forgivenAt) silent.add(receiver)
    },
    /** Returns the group in which the lookups of a receiver are counted. */
    groupOf(receiver: string): 'silent' | 'known' | 'new' {
      if (silent.has(receiver)) return 'silent'
      return known.has(receiver) ? 'known' : 'new'
    },
  }
}

/**
 * Remembers receivers, each for `forMs` milliseconds. If there are more than `most`, the one that was added first is
 * dropped.
 */
function createReceivers({ forMs, most, clock }: { forMs: number; most: number; clock: Clock }) {
  /** Until when a receiver is remembered, in the steady time of this process. */
  const until = new Map<string, number>()
  return {
    has: (receiver: string) => steadyTime(clock) < (until.get(receiver) ?? Number.NEGATIVE_INFINITY),
    add(receiver: string): void {
      until.delete(receiver)
      if (until.size >= most) until.delete(until.keys().next().value!)
      until.set(receiver, steadyTime(clock) + forMs)
    },
    /** Returns when a remembered receiver was added, in the steady time of this process. */
    addedAt(receiver: string): number | undefined {
      const end = until.get(receiver)
      return end === undefined || steadyTime(clock) >= end ? undefined : end - forMs
    },
  }
}

/**
 * Asks for IPv6 and IPv4 addresses. When one query has returned addresses, the other query has `graceMs` milliseconds
 * left. This time is short because some name servers never answer for IPv6. Addresses that arrive later are not used.
 */
async function askForBoth(
  resolver: Resolver,
  name: string,
  { graceMs, clock }: { graceMs: number; clock: Clock },
): Promise<Address[]> {
  let cancelGrace: (() => void) | undefined
  const begin = (addresses: string[]) => {
    if (addresses.length > 0) cancelGrace ??= clock.after(graceMs, () => resolver.cancel())
    return addresses
  }
  const [six, four] = await Promise.allSettled([
    resolver.resolve6(name).then(begin),
    resolver.resolve4(name).then(begin),
  ])
  cancelGrace?.()
  const found = [...addressesIn(six, 6), ...addressesIn(four, 4)]
  if (found.length > 0) return inDefaultOrder(found)
  const errors = [four, six].flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []))
  throw errors.find((error) => !meansNone(error)) ?? errors[0] ?? Object.assign(new Error(name), { code: 'ENODATA' })
}

function addressesIn(answer: PromiseSettledResult<string[]>, family: 4 | 6): Address[] {
  return answer.status === 'fulfilled' ? answer.value.map((address) => ({ address, family })) : []
}

/**
 * Orders IPv6 addresses before IPv4 addresses, or after them with Node's `--dns-result-order=ipv4first`. On a machine
 * without IPv6, a connection to an IPv6 address fails at once, and the next address is tried.
 */
function inDefaultOrder(addresses: Address[]): Address[] {
  return getDefaultResultOrder() === 'ipv4first' ? addresses.toSorted((a, b) => a.family - b.family) : addresses
}

/** Returns whether the name server answered that the name has no address. */
function meansNone(error: unknown): boolean {
  return ['ENOTFOUND', 'ENODATA'].includes(codeOf(error))
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/**
 * Returns the error for a lookup that is aborted to free its place. The code is `ECANCELLED`, because after an
 * `ETIMEOUT` the receiver would count as silent at once.
 */
function cutShort(name: string): Error {
  return Object.assign(new Error(`no name server answered for ${name} quickly`), { code: 'ECANCELLED' })
}

function timedOut(name: string): Error {
  return Object.assign(new Error(`no name server answered for ${name} in time`), { code: 'ETIMEOUT' })
}

/**
 * Returns the receiver to which a name belongs: roughly the registered domain, so that a receiver with a thousand names
 * counts once. If the second level is short (`co.uk`, `com.au`), one more label is used. An IP address is a receiver of
 * its own.
 */
export function receiverOf(name: string): string {
  if (isIP(name) !== 0) return name
  const labels = name.replace(/\.$/, '').split('.')
  const [second = '', top = ''] = labels.slice(-2)
  return labels.slice(top.length === 2 && second.length <= 3 ? -3 : -2).join('.')
}
