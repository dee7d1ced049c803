/**
 * A client is removed after it has authenticated and before its call has written anything. Then the call writes
 * nothing.
 */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createRequestStore } from '../../src/ciba/authentication-request/authentication-request-store.ts'
import { createClientStore } from '../../src/client/client-store.ts'
import { toClient } from '../../src/client/configured-clients.ts'
import { readClientMetadata } from '../../src/client/metadata/read-client-metadata.ts'
import { beforeSteps } from '../support/before-steps.ts'
import { byCommand } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { holdStatements } from '../support/held-statements.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { newRequest, vault } from '../support/rows.ts'
import { type Answer, basic, CIBA, newNotificationToken, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!
const secret = 'the secret of the first registration'

for (const engine of engines) {
  for (const mode of ['poll', 'ping', 'push'] as const) {
    test(`a client with ${mode} that is removed before its request is stored, on ${engine.name}`, async (t) => {
      const gate = createGate()
      t.after(gate.release)
      const { stage, ask, remove } = await scene(t, engine, mode, gate.pass)
      gate.hold()
      const asking = ask()
      await gate.waiting(1)
      assert.equal(await remove(), true)
      gate.release()
      await assertRefused(stage, await asking)
    })
  }

  test(`another client that was added with the same id, before the request is stored, on ${engine.name}`, async (t) => {
    const gate = createGate()
    t.after(gate.release)
    const { stage, ask, remove, add } = await scene(t, engine, 'poll', gate.pass)
    gate.hold()
    const asking = ask()
    await gate.waiting(1)
    await remove()
    await add('the secret of the second registration')
    gate.release()
    await assertRefused(stage, await asking)
    const accepted = await ask('the secret of the second registration')
    assert.equal(accepted.status, 200, 'requests of the new registration are accepted')
  })

  test(`a client that is replaced while it changes its settings does not change the settings of the new client, on ${engine.name}`, async (t) => {
    const gate = createGate()
    t.after(gate.release)
    const changing = /^\s*update clients set delivery_mode/
    const { stage, remove, add } = await scene(t, engine, 'ping', gate.pass, changing)
    gate.hold()
    const settings = { backchannel_token_delivery_mode: 'poll' }
    const answering = stage.post('/backchannel/clientconfig', settings, basic('shop', secret))
    await gate.waiting(1)
    await remove()
    await add('the secret of the second registration')
    gate.release()
    assert.equal((await answering).body.error, 'unauthorized_client')
    const [row] = await rowsOf(stage, `select delivery_mode from clients where id = 'shop'`)
    assert.equal(row?.delivery_mode, 'ping')
  })

  test(`a request is accepted although the secret of its client is changed before the request is stored, on ${engine.name}`, async (t) => {
    const gate = createGate()
    t.after(gate.release)
    const clients = [{ ...metadataOf('poll', ''), client_secret: secret }]
    const parts = { openDatabase: beforeSteps(accepting, gate.pass) }
    const stage = await openStage(t, { engine, config: { clients }, parts })
    gate.hold()
    const asking = stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, basic('shop', secret))
    await gate.waiting(1)
    await byCommand(stage, ({ database }) =>
      createClientStore(database).putConfigured(shop('poll', '', 'another secret of this shop'), 'changed', 0),
    )
    gate.release()
    assert.equal((await asking).status, 200)
  })
}

test('a request that is being stored when its client is removed is settled by the removal', async (t) => {
  const { stage, ask, remove } = await scene(t, postgres, 'poll')
  const held = await holdStatements(t, stage.database, 'insert', 'backchannel_auth_requests')
  const asking = ask()
  await until(async () => (await held.waiting()) === 1)
  const removing = remove()
  await until(async () => (await held.waitingForKeys()) === 1)
  await held.release()
  assert.equal((await asking).status, 200)
  assert.equal(await removing, true)
  assert.deepEqual(await rowsOf(stage, 'select status from backchannel_auth_requests'), [{ status: 'expired' }])
})

test('a request that arrives while its client is being removed waits, and is refused', async (t) => {
  const { stage, ask, remove } = await scene(t, postgres, 'poll')
  const held = await holdStatements(t, stage.database, 'insert', 'backchannel_auth_consent_history')
  const removing = remove()
  await until(async () => (await held.waiting()) === 1)
  const asking = ask()
  await until(async () => (await held.waitingForKeys()) === 1)
  await held.release()
  assert.equal(await removing, true)
  await assertRefused(stage, await asking)
})

test('requests of one client are stored at the same time', async (t) => {
  const { stage, ask } = await scene(t, postgres, 'poll')
  const held = await holdStatements(t, stage.database, 'insert', 'backchannel_auth_requests')
  const asking = ask()
  await until(async () => (await held.waiting()) === 1)
  // Another node stores this request, so that it is not in the same batch.
  const other = await byCommand(stage, async ({ database }) => {
    const storing = createRequestStore(database).accept(
      newRequest(stage.clock.now(), { clientId: 'shop', userId: 'user-ben' }),
      'urn:other',
      { maxOpenPerUser: 5 },
    )
    await until(async () => (await held.waiting()) === 2)
    await held.release()
    return storing
  })
  assert.deepEqual([other, (await asking).status], [true, 200])
})

const accepting = /^\s*insert into backchannel_auth_requests/

type Mode = 'poll' | 'ping' | 'push'

function metadataOf(mode: Mode, endpoint: string) {
  return {
    client_id: 'shop',
    client_name: 'Shop',
    grant_types: [CIBA],
    backchannel_token_delivery_mode: mode,
    ...(mode !== 'poll' && { backchannel_client_notification_endpoint: endpoint }),
  }
}

function shop(mode: Mode, endpoint: string, client_secret: string) {
  const read = readClientMetadata({ ...metadataOf(mode, endpoint), client_secret }, { development: true })
  if ('problems' in read) throw new Error(read.problems.join())
  return toClient(read.client, vault)
}

/** A stage with a client that a command has added. */
async function scene(
  t: TestContext,
  engine: Engine,
  mode: Mode,
  before: () => Promise<void> = async () => {},
  statement = accepting,
) {
  const endpoint = await openNotificationEndpoint(t)
  const stage = await openStage(t, { engine, parts: { openDatabase: beforeSteps(statement, before) } })
  const fields = {
    scope: 'openid',
    login_hint: 'ana',
    ...(mode !== 'poll' && { client_notification_token: newNotificationToken() }),
  }
  const add = (its: string) =>
    byCommand(stage, ({ database }) =>
      createClientStore(database).add(shop(mode, endpoint.url, its), stage.clock.now()),
    )
  await add(secret)
  return {
    stage,
    add,
    ask: (its = secret) => stage.post('/backchannel/authorize', fields, basic('shop', its)),
    remove: () => byCommand(stage, ({ removeClient }) => removeClient('shop')),
  }
}

async function assertRefused(stage: Stage, { status, body }: Answer): Promise<void> {
  assert.deepEqual([status, body.error], [401, 'invalid_client'])
  assert.deepEqual(await rowsOf(stage, `select id from backchannel_auth_requests where status = 'pending'`), [])
  assert.deepEqual(await rowsOf(stage, 'select id from notifications'), [])
}
