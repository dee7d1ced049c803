/**
 * Notices when the machine of a test run stands still: paused by its host, or starved of CPU or disk. Then connections
 * time out, and servers close connections that calls are on, in tests that have nothing to do with each other.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'

/** Far longer than two busy cores make anything wait, and as long as a connection to Postgres may take. */
const longestMs = 5000
const everyMs = 1000

/**
 * Looks each second whether a timer and a new connection to Postgres come in time.
 *
 * @param url of the Postgres of the test run
 * @returns a function that ends this and resolves to what was seen, one sentence for each standstill
 */
export function watchForStandstills(url: string): () => Promise<string[]> {
  const seen: string[] = []
  const note = (what: string, begun: number) => {
    const tookMs = Date.now() - begun
    const at = new Date(begun).toISOString().slice(11, 19)
    if (tookMs > longestMs) seen.push(`${what} at ${at} took ${Math.round(tookMs / 1000)} s`)
  }
  const ended = new AbortController()
  const watching = (async () => {
    while (!ended.signal.aborted) {
      const begun = Date.now()
      // The end of the run cuts the wait short.
      await pause(everyMs, undefined, { signal: ended.signal }).catch(() => {})
      note('A timer of one second', begun)
      const connecting = Date.now()
      await connect(url)
      note('A connection to Postgres', connecting)
    }
  })()
  return async () => {
    ended.abort()
    await watching
    return seen
  }
}

/** That Postgres refuses is no standstill: the tests say so themselves. */
async function connect(url: string): Promise<void> {
  const client = new Client(url)
  client.on('error', () => {})
  await client.connect().catch(() => {})
  await client.end().catch(() => {})
}
