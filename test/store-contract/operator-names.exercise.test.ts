/** The names of the operator's clients are read once, and after a change only those of the changed clients. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClientStore } from '../../src/client/client-store.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { calls, open, poll } from '../flows/registration-calls.ts'
import { engines } from '../support/engines.ts'
import { openStage } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  test(`attempts with any name read no clients again; a client of another process is known, on ${engine.name}`, async (t) => {
    const read = { all: 0, changed: 0 }
    const counting: typeof openDatabase = async (...given) => {
      const database = await openDatabase(...given)
      const { read: readRows } = database
      database.read = (sql, values) => {
        if (sql.includes('select id, metadata from clients')) read[sql.includes('id in (') ? 'changed' : 'all'] += 1
        return readRows(sql, values)
      }
      return database
    }
    const stage = await openStage(t, { engine, config: open, parts: { openDatabase: counting } })
    const { register, send } = calls(stage)
    const refused = async (name: string) => {
      const { status, text } = await register({ ...poll, client_name: name })
      assert.equal(status, 400, text)
    }

    for (let attempt = 0; attempt < 5; attempt++) await refused('K!osk')
    assert.deepEqual(read, { all: 1, changed: 0 })

    // A client that registers itself is announced too. Only this client is read, and its name is not compared.
    const { body } = await register({ ...poll, client_name: 'Corner' })
    assert.equal((await register({ ...poll, client_name: 'Corner' })).status, 201)
    const replaced = { ...poll, client_id: body.client_id, client_name: 'Kiosk' }
    const { pathname } = new URL(String(body.registration_client_uri))
    const { status } = await send('PUT', pathname, replaced, String(body.registration_access_token))
    assert.equal(status, 400)
    assert.equal(read.all, 1)
    assert.ok(read.changed <= 2, `${read.changed}`)

    const other = await openDatabase(stage.database, { log: createLog('silent'), clock: systemClock })
    closeAfter(t, () => other.close())
    const clients = createClientStore(other)
    const metadata = { client_id: 'harbour', client_name: 'Harbour Café', token_endpoint_auth_method: 'none' } as const
    await clients.add({ id: 'harbour', metadata } as never, stage.clock.now())
    // On Postgres the announcement arrives a moment later.
    await until(async () => (await register({ ...poll, client_name: 'HARBOUR CAFE' })).status === 400)
    await clients.remove('harbour', [])
    await until(async () => (await register({ ...poll, client_name: 'Harbour Cafe' })).status === 201)
    assert.ok(read.all <= (engine.name === 'postgres' ? 1 : 3), `${read.all}`)
  })
}
