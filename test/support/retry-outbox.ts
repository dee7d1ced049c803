import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { createOutboxStore } from '../../src/outbox/outbox-store.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { Stage } from './stage.ts'
import { callBacksOf } from './tables.ts'

/** Does what `doorbell outbox retry` does, beside the server, with the only notification to a client. */
export async function retryOutbox(t: TestContext, stage: Stage): Promise<void> {
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
  t.after(() => database.close())
  const [{ id }] = (await callBacksOf(stage)) as [{ id: string }]
  const now = stage.clock.now()
  assert.equal(await createOutboxStore(database).retry(id, now, now + 600_000), true)
  stage.clock.advance(2_000)
}
