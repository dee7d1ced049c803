/** A lookup that asks a name server on loopback, with a clock that advances only on request. */
import type { TestContext } from 'node:test'
import { createNameLookup, type NameLookupOptions } from '../../src/platform/http/name-lookup.ts'
import { createStageClock } from './clock.ts'
import { type NameServer, openNameServer } from './name-server.ts'
import { inTime } from './until.ts'

/** A deadline that no test reaches: a test that waits for it fails first (`inTime`). */
export const longMs = 60_000

/** By default no lookup reaches its deadline, and the files of the system are not read. */
export async function scene(t: TestContext, options: Partial<NameLookupOptions> = {}) {
  const server = await openNameServer(t)
  const clock = createStageClock()
  const none = { hosts: '/nowhere', resolvConf: '/nowhere' }
  const lookup = createNameLookup({ timeoutMs: longMs, clock, servers: [server.address], files: none, ...options })
  t.after(() => lookup.close())
  const resolve = (name: string) => inTime(lookup.resolve(name), () => `the addresses of ${name}`)
  return { server, clock, lookup: { ...lookup, resolve }, files: none }
}

export const addressesOf = (found: { address: string }[]) => found.map(({ address }) => address)

/** A place is given back one turn of the event loop after its lookup has ended. */
export const turn = () => new Promise(setImmediate)

/**
 * Begins lookups. Returns a function that resolves when all of them have ended, successfully or not. It rejects after ten
 * seconds, counted from its call: sooner than a resolver that is not cancelled gives up.
 */
export function ask(lookup: { resolve(name: string): Promise<unknown> }, count: number, name: (n: number) => string) {
  const all = Promise.allSettled(Array.from({ length: count }, (_, n) => lookup.resolve(name(n))))
  return () => inTime(all, () => `the end of ${count} lookups`, 10_000)
}

/** Returns the names that the name server was asked for. */
export function namesAsked({ asked }: NameServer, fit = /./): Set<string> {
  return new Set(asked.map((each) => each.split(' ')[0]!).filter((name) => fit.test(name)))
}
