/**
 * If an awaited event never happens, the test must fail with a message that says what was awaited. It must not hang.
 */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Database } from '../../src/platform/storage/database.ts'
import { flow, hearing, logbook } from '../store-contract/doors.ts'
import { openPostgresWire } from './postgres-wire.ts'

const waits: Record<string, [wait: (t: TestContext) => Promise<unknown>, awaited: RegExp]> = {
  'an item': [async () => flow().next('a timer'), /for a timer$/],
  'an announcement': [
    async () => hearing({ listen: () => () => {} } as unknown as Database, 'door').next(),
    /for an announcement on door$/,
  ],
  'a log line': [async () => logbook().line('it ended'), /for a log line with “it ended”$/],
  'commits at Postgres': [
    async (t) => (await openPostgresWire(t, 'postgres://127.0.0.1:9/x')).next('kept', 2),
    /for 2 of 2 commits on the wire to Postgres \(kept\)$/,
  ],
}

for (const [what, [wait, awaited]] of Object.entries(waits)) {
  test(`the wait for ${what} ends with an error`, { timeout: 10_000 }, async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    let isOver = false
    const waiting = assert.rejects(wait(t), awaited).finally(() => {
      isOver = true
    })
    // The wire first opens its port, and only then starts the timer of the wait. So the clock advances again and again.
    while (!isOver) {
      t.mock.timers.tick(1000)
      await new Promise(setImmediate)
    }
    await waiting
  })
}
