/**
 * A refresh is one transaction, and so is the exchange of a code. If the transaction fails, no token or code is marked
 * as used. So the client can repeat the call, as the response tells it to.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { beforeSteps } from '../support/before-steps.ts'
import { openBrowser } from '../support/browser.ts'
import { type Engine, engines } from '../support/engines.ts'
import { codeFor } from '../support/phone-app.ts'
import { ask } from '../support/postgres-pair.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

const app = {
  client_id: 'pocket-app',
  application_type: 'native' as const,
  token_endpoint_auth_method: 'none' as const,
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: ['http://127.0.0.1/callback'],
  scope: 'openid offline_access',
}

/** Ana has consented; the app has not sent its code yet. */
async function scene(t: TestContext, engine: Engine) {
  let transactions = 0
  const openDatabase = beforeSteps(/oidc_models/, async () => {
    transactions += 1
  })
  const stage = await openStage(t, { engine, config: { clients: [app] }, parts: { workers: false, openDatabase } })
  const parameters = { scope: app.scope, prompt: 'consent', client_id: app.client_id }
  const code = await codeFor(stage, ana, openBrowser(stage.url), parameters)
  const exchange = () => stage.post('/oauth/token', { ...code.form, client_id: app.client_id })
  const refresh = (refresh_token: unknown) =>
    stage.post('/oauth/token', {
      grant_type: 'refresh_token',
      refresh_token: String(refresh_token),
      client_id: app.client_id,
    })
  async function transactionsOf(work: () => Promise<{ status: number }>): Promise<number> {
    transactions = 0
    assert.equal((await work()).status, 200)
    return transactions
  }
  return { stage, exchange, refresh, transactionsOf }
}

/** Makes each insert of an access token fail. In a refresh, this insert is the last write. */
async function breakInserts(stage: Stage, engine: Engine): Promise<void> {
  if (engine.name === 'postgres') {
    await ask(
      stage.database,
      `create function fail() returns trigger language plpgsql as $$
         begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
       create trigger fail before insert on oidc_models for each row when (new.model = 'AccessToken') execute function fail()`,
    )
  } else {
    onSqlite(
      stage,
      `create trigger fail before insert on oidc_models when new.model = 'AccessToken'
       begin select raise(abort, 'no space'); end`,
    )
  }
}

async function mendInserts(stage: Stage, engine: Engine): Promise<void> {
  if (engine.name === 'postgres') await ask(stage.database, 'drop trigger fail on oidc_models')
  else onSqlite(stage, 'drop trigger fail')
}

function onSqlite(stage: Stage, sql: string): void {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  const database = new DatabaseSync(stage.database.slice('sqlite:'.length))
  database.exec(sql)
  database.close()
}

const tokensOf = async (stage: Stage) =>
  (
    await rowsOf(
      stage,
      `select model, consumed_at is not null as used, count(*) as number from oidc_models
       where model in ('AuthorizationCode', 'AccessToken', 'RefreshToken') group by 1, 2 order by 1, 2`,
    )
  ).map(({ model, used, number }) => `${number} ${model}${Number(used) === 1 ? ' used' : ''}`)

for (const engine of engines) {
  describe(`one transaction for each call of the token endpoint, on ${engine.name}`, () => {
    test('a refresh that fails can be repeated, and ends nothing', async (t) => {
      const { stage, exchange, refresh } = await scene(t, engine)
      const { access_token, refresh_token } = (await exchange()).body
      const before = await tokensOf(stage)
      await breakInserts(stage, engine)
      for (let time = 0; time < 3; time++) assert.ok((await refresh(refresh_token)).status >= 500)
      await mendInserts(stage, engine)
      assert.deepEqual(await tokensOf(stage), before, 'nothing of the failed calls is stored')
      const repeated = await refresh(refresh_token)
      assert.equal(repeated.status, 200, repeated.text)
      assert.equal((await refresh(repeated.body.refresh_token)).status, 200)
      assert.equal((await stage.get('/oauth/userinfo', { authorization: `Bearer ${access_token}` })).status, 200)
    })

    test('a code whose exchange fails can be sent again', async (t) => {
      const { stage, exchange, refresh } = await scene(t, engine)
      const before = await tokensOf(stage)
      await breakInserts(stage, engine)
      assert.ok((await exchange()).status >= 500)
      await mendInserts(stage, engine)
      assert.deepEqual(await tokensOf(stage), before)
      const repeated = await exchange()
      assert.equal(repeated.status, 200, repeated.text)
      assert.equal((await refresh(repeated.body.refresh_token)).status, 200)
    })

    test('the exchange of a code, and a refresh, write in one transaction each', async (t) => {
      const { stage, exchange, refresh, transactionsOf } = await scene(t, engine)
      let refresh_token: unknown
      const exchanged = await transactionsOf(async () => {
        const answer = await exchange()
        refresh_token = answer.body.refresh_token
        return answer
      })
      assert.deepEqual([exchanged, await transactionsOf(() => refresh(refresh_token))], [1, 1])
      assert.deepEqual(await tokensOf(stage), [
        ...['2 AccessToken', '1 AuthorizationCode used', '1 RefreshToken', '1 RefreshToken used'],
      ])
    })

    test('of ten simultaneous refreshes with one token, one at most gets tokens', async (t) => {
      const { stage, exchange, refresh } = await scene(t, engine)
      const { refresh_token } = (await exchange()).body
      const answers = await Promise.all(Array.from({ length: 10 }, () => refresh(refresh_token)))
      assert.ok(answers.filter(({ status }) => status === 200).length <= 1)
      const issued = await rowsOf(
        stage,
        `select id_hash from oidc_models where model = 'RefreshToken' and consumed_at is null`,
      )
      assert.ok(issued.length <= 1)
    })
  })
}
