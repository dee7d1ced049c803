/**
 * A migration adds columns while servers of the old version run. Postgres then refuses statements that a connection has
 * prepared before ("cached plan must not change result type"). The server prepares them again, and no call fails.
 */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { engines } from '../support/engines.ts'
import { credentials, openStage, type Stage } from '../support/stage.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!

const tables = [
  'backchannel_auth_requests',
  'backchannel_auth_consent_history',
  'notifications',
  'oidc_models',
  'clients',
  'users',
  'user_sessions',
  'user_generations',
  'signing_keys',
]

/** A request, a poll, an approval and a poll that gets tokens. Resolves to the status of each. */
async function flow(stage: Stage): Promise<number[]> {
  const { status, body } = await stage.ring('kiosk', { scope: 'openid offline_access', binding_message: 'x' })
  const authReqId = String(body.auth_req_id)
  const pending = await stage.poll('kiosk', authReqId)
  const form = { login_hint: 'ana', auth_req_id: authReqId, status: 'approved' }
  const decided = await stage.post('/backchannel/complete', form, credentials.phoneService)
  stage.clock.advance(6000)
  const tokens = await stage.poll('kiosk', authReqId)
  const form2 = { grant_type: 'refresh_token', refresh_token: String(tokens.body.refresh_token) }
  const refreshed = await stage.post('/oauth/token', form2, credentials.kiosk)
  return [status, pending.status, decided.status, tokens.status, refreshed.status]
}

async function scene(t: TestContext) {
  const stage = await openStage(t, { engine: postgres, config: { requests: { maxOpenPerUser: 1000 } } })
  const flows = async (count: number, atOnce: number) => {
    const statuses: string[] = []
    for (let begun = 0; begun < count; begun += atOnce) {
      statuses.push(...(await Promise.all(Array.from({ length: atOnce }, () => flow(stage)))).map(String))
    }
    return [...new Set(statuses)]
  }
  async function alter(table: string) {
    const client = new Client(stage.database)
    await client.connect()
    await client.query(`alter table ${table} add column added_later bigint`)
    await client.end()
  }
  return { stage, flows, alter }
}

const allWell = ['200,400,200,200,200']

test('after each added column, all calls of all connections succeed, and the log has no error', async (t) => {
  const { stage, flows, alter } = await scene(t)
  assert.deepEqual(await flows(24, 12), allWell)
  for (const table of tables) {
    await alter(table)
    assert.deepEqual(await flows(12, 12), allWell, table)
  }
  assert.deepEqual(
    stage.logLines.filter((line) => /"level":[56]0|cached plan/.test(line)),
    [],
  )
})

test('columns that are added while calls are in progress let none fail', async (t) => {
  const { flows, alter } = await scene(t)
  await flows(12, 12)
  const [statuses] = await Promise.all([flows(60, 12), ...tables.map(alter)])
  assert.deepEqual(statuses, allWell)
})
