/**
 * Notices when the machine of a test run stands still, because its host pauses it, or because it gets no CPU time or
 * disk access. Then unrelated tests fail, because connections time out and servers close connections with calls in
 * progress.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'

/**
 * A longer wait counts as a standstill. A machine with two busy cores never causes such a wait. The time limit for
 * connections to Postgres is the same.
 */
const longestMs = 5000
const everyMs = 1000

/**
 * Checks every second whether a timer and a new connection to Postgres take longer than `longestMs`.
 *
 * @param url the URL of the Postgres server of the test run
 * @returns a function that ends the checks and resolves to a list with one sentence for each standstill
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
      // At the end of the test run, the wait ends at once.
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

/** Opens and closes a connection. An error is ignored: it is no standstill, and the tests report it themselves. */
async function connect(url: string): Promise<void> {
  const client = new Client(url)
  client.on('error', () => {})
  await client.connect().catch(() => {})
  await client.end().catch(() => {})
}
