/**
 * Name lookups for tests. They ask a name server on a loopback address, and use a clock that advances only on request.
 */
import type { TestContext } from 'node:test'
import { createNameLookup, type NameLookupOptions } from '../../src/platform/http/name-lookup.ts'
import { createStageClock } from './clock.ts'
import { type NameServer, openNameServer } from './name-server.ts'
import { inTime } from './until.ts'

/** A deadline that no test reaches in real time. The time limit of `inTime` is shorter. */
export const longMs = 60_000

/**
 * Returns a name server and a lookup that asks it. By default no lookup reaches its deadline, and no system files are
 * read.
 */
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

/** Waits for one turn of the event loop: a place is freed one turn after its lookup has ended. */
export const turn = () => new Promise(setImmediate)

/**
 * Begins lookups. Returns a function that resolves when all lookups have ended, successfully or not. It rejects ten
 * seconds after its call. A resolver that is not cancelled takes longer to give up.
 */
export function ask(lookup: { resolve(name: string): Promise<unknown> }, count: number, name: (n: number) => string) {
  const all = Promise.allSettled(Array.from({ length: count }, (_, n) => lookup.resolve(name(n))))
  return () => inTime(all, () => `the end of ${count} lookups`, 10_000)
}

/** Returns the names that the name server was asked for, if they match `fit`. */
export function namesAsked({ asked }: NameServer, fit = /./): Set<string> {
  return new Set(asked.map((each) => each.split(' ')[0]!).filter((name) => fit.test(name)))
}
