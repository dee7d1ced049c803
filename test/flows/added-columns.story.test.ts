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

/**
 * Requests, polls, approvals, polls that get tokens, and refreshes. Each kind of call is made for all requests at once. The
 * clock advances while no call is in progress: otherwise a connection that is being opened would count as silent.
 *
 * @returns the statuses of each request
 */
async function batch(stage: Stage, count: number): Promise<string[]> {
  const all = <T>(call: (index: number) => Promise<T>) =>
    Promise.all(Array.from({ length: count }, (_, index) => call(index)))
  const rung = await all(() => stage.ring('kiosk', { scope: 'openid offline_access', binding_message: 'x' }))
  const ids = rung.map(({ body }) => String(body.auth_req_id))
  const pending = await all((index) => stage.poll('kiosk', ids[index]))
  const decided = await all((index) => {
    const form = { login_hint: 'ana', auth_req_id: ids[index]!, status: 'approved' }
    return stage.post('/backchannel/complete', form, credentials.phoneService)
  })
  await stage.doorbell.idle()
  stage.clock.advance(6000)
  const tokens = await all((index) => stage.poll('kiosk', ids[index]))
  const refreshed = await all((index) => {
    const form = { grant_type: 'refresh_token', refresh_token: String(tokens[index]!.body.refresh_token) }
    return stage.post('/oauth/token', form, credentials.kiosk)
  })
  return ids.map((_, index) => [rung, pending, decided, tokens, refreshed].map((each) => each[index]!.status).join())
}

async function scene(t: TestContext) {
  const stage = await openStage(t, { engine: postgres, config: { requests: { maxOpenPerUser: 1000 } } })
  const flows = async (count: number, atOnce: number) => {
    const statuses: string[] = []
    for (let begun = 0; begun < count; begun += atOnce) statuses.push(...(await batch(stage, atOnce)))
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

const errorsOf = ({ logLines }: Stage) =>
  logLines.filter((line) => /"level":[56]0|cannot be answered|cached plan/.test(line)).join('\n')

const allWell = ['200,400,200,200,200']

test('after each added column, all calls of all connections succeed, and the log has no error', async (t) => {
  const { stage, flows, alter } = await scene(t)
  assert.deepEqual(await flows(24, 12), allWell)
  for (const table of tables) {
    await alter(table)
    const statuses = await flows(12, 12)
    assert.deepEqual(statuses, allWell, `${table}: ${errorsOf(stage)}`)
  }
  assert.equal(errorsOf(stage), '')
})

test('columns that are added while calls are in progress let none fail', async (t) => {
  const { flows, alter } = await scene(t)
  await flows(12, 12)
  const [statuses] = await Promise.all([flows(60, 12), ...tables.map(alter)])
  assert.deepEqual(statuses, allWell)
})
