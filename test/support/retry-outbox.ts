import assert from 'node:assert/strict'
import { createOutboxStore } from '../../src/outbox/outbox-store.ts'
import { withDatabase } from './beside.ts'
import type { Stage } from './stage.ts'
import { callBacksOf } from './tables.ts'

/** Does the same as `doorbell outbox retry` for the only notification to a client, while the server runs. */
export async function retryOutbox(stage: Stage): Promise<void> {
  const [{ id }] = (await callBacksOf(stage)) as [{ id: string }]
  const now = stage.clock.now()
  await withDatabase(stage, async (database) => {
    assert.equal(await createOutboxStore(database).retry(id, now, now + 600_000), true)
  })
  stage.clock.advance(2_000)
}
