/**
 * A user signs out everywhere while a client collects or refreshes the tokens of an approval. The approval stays valid.
 * A lock of the test holds up each transaction between its statements. This needs Postgres, because SQLite runs one
 * transaction after the other.
 */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { beforeSteps } from '../support/before-steps.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { holdStatements } from '../support/held-statements.ts'
import { bearerOf } from '../support/phone-app.ts'
import { type Answer, credentials, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!

test('tokens that are collected before the transaction of the ending is committed are valid', async (t) => {
  const { stage, token, collect } = await scene(t)
  const held = await holdStatements(t, stage.database, 'delete', 'push_subscriptions')
  const ending = everywhere(stage, token)
  await until(async () => (await held.waiting()) === 1)
  // The redemption waits for the transaction that signs the user out.
  const collecting = collect()
  await until(async () => (await held.waitingForRows()) === 1)
  await held.release()
  assert.equal((await ending).status, 200)
  await assertValid(stage, await collecting)
})

test('tokens that are being stored when the ending begins are valid', async (t) => {
  const { stage, token, collect } = await scene(t)
  const held = await holdStatements(t, stage.database, 'insert', 'oidc_models')
  const collecting = collect()
  await until(async () => (await held.waiting()) === 1)
  // The transaction that signs the user out waits for the redemption.
  const ending = everywhere(stage, token)
  await until(async () => (await held.waitingForRows()) === 1)
  await held.release()
  assert.equal((await ending).status, 200)
  await assertValid(stage, await collecting)
})

for (const engine of engines) {
  test(`tokens that are refreshed while their user signs out everywhere are valid, on ${engine.name}`, async (t) => {
    const gate = createGate()
    t.after(gate.release)
    const { stage, token, collect } = await scene(t, engine, beforeSteps(/insert into oidc_models/, gate.pass))
    const { refresh_token } = (await collect()).body
    gate.hold()
    const refreshing = refresh(stage, refresh_token)
    await gate.waiting(1)
    assert.equal((await everywhere(stage, token)).status, 200)
    gate.release()
    await assertValid(stage, await refreshing)
  })

  test(`tokens of an earlier generation stay invalid after a later "everywhere", on ${engine.name}`, async (t) => {
    const { stage, token, collect } = await scene(t, engine)
    const { access_token, refresh_token } = (await collect()).body
    assert.equal((await everywhere(stage, token)).status, 200)
    assert.equal(await userinfo(stage, access_token), 200)
    // The tokens get an earlier generation, as if another sign-out had been committed while they were stored.
    await rowsOf(stage, 'update oidc_models set user_generation = 0 where request_id is not null returning id_hash')
    assert.equal(await userinfo(stage, access_token), 401)
    assert.equal((await everywhere(stage, await bearerOf(stage))).status, 200)
    assert.equal(await userinfo(stage, access_token), 401)
    assert.equal((await refresh(stage, refresh_token)).body.error, 'invalid_grant')
  })
}

/** A stage with an approved request of Kiosk, and an access token of Ana. */
async function scene(t: TestContext, engine = postgres, openDatabase?: ReturnType<typeof beforeSteps>) {
  const stage = await openStage(t, { engine, ...(openDatabase && { parts: { openDatabase } }) })
  const token = await bearerOf(stage)
  const { auth_req_id } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
  await stage.decide(await stage.newestRequest(), 'approved')
  return { stage, token, collect: () => stage.poll('kiosk', auth_req_id) }
}

const everywhere = (stage: Stage, token: string) =>
  stage.post('/backchannel/sessions/end', { everywhere: 'true' }, token)

const refresh = (stage: Stage, token: unknown) =>
  stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token: String(token) }, credentials.kiosk)

async function userinfo(stage: Stage, token: unknown): Promise<number> {
  return (await stage.get('/oauth/userinfo', { authorization: `Bearer ${token}` })).status
}

/** Asserts that the access token of a token response is valid, and that its refresh token can be used. */
async function assertValid(stage: Stage, { status, body }: Answer): Promise<void> {
  assert.equal(status, 200)
  assert.equal(await userinfo(stage, body.access_token), 200)
  assert.equal((await refresh(stage, body.refresh_token)).status, 200)
}
