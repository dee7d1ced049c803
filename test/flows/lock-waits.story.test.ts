/** On Postgres: calls that wait for each other leave the connections to other calls. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { beforeSteps } from '../support/before-steps.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, ben, credentials, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import { openVisitor } from '../support/visitor.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!

/** More calls than the server has connections. */
const many = 12

test('an anonymous page requests many passkey challenges at once: other calls are answered', async (t) => {
  await otherCallsAreAnswered(t, 'passkey_challenges', async (stage) => {
    const visitor = openVisitor(stage.url)
    const page = await visitor.follow(await visitor.get('/'))
    const path = /action="(\/sign-in\/[^"/]+)"/.exec(page.text)![1]
    return () => visitor.post(`${path}/passkey/options`, {})
  })
})

test('a user adds many push subscriptions at once: other calls are answered', async (t) => {
  await otherCallsAreAnswered(t, 'push_subscriptions', async (stage) => {
    const token = await bearerOf(stage)
    const service = await openPushService(t)
    return () => {
      const subscription = JSON.stringify(service.newBrowser().subscription)
      return stage.post('/backchannel/push-subscriptions', { subscription }, token)
    }
  })
})

test('calls of five users are held up, and clients ask these users: requests and decisions of other users go on', async (t) => {
  const people = Array.from({ length: 5 }, (_, number) => ({ ...ana, id: `user-${number}`, username: `u${number}` }))
  const users = [ben, ...people.map(({ id, username, password }) => ({ id, username, password }))]
  const config = { users, webPush: { subject: 'mailto:operator@shop.example' } }
  const stage = await openStage(t, { engine: postgres, config })
  const service = await openPushService(t)
  const subscription = JSON.stringify(service.newBrowser().subscription)
  const bens = await bearerOf(stage, ben)
  await stage.ring('kiosk', { login_hint: 'ben' })
  const toDecide = await stage.newestRequest('ben')
  const tokens = await Promise.all(people.map((person) => bearerOf(stage, person)))
  const other = new Client({ connectionString: stage.database })
  await other.connect()
  try {
    // The lock holds up only changes of the table. The server can still read the subscriptions of the users.
    await other.query('begin; lock table push_subscriptions in share mode')
    const changes = tokens.map((token) => stage.post('/backchannel/push-subscriptions', { subscription }, token))
    await until(async () => (await countWaiting(other, 'relation')) === people.length)
    const asked = []
    for (const { username } of people) {
      asked.push(stage.ring('kiosk', { login_hint: username }), stage.ring('till', { login_hint: username }))
      // Each request arrives in a separate turn of the event loop, so that each could begin a separate batch.
      assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200)
    }
    const decided = await stage.post('/backchannel/complete', { request_id: toDecide, status: 'approved' }, bens)
    assert.equal(decided.status, 200)
    assert.equal(await countWaiting(other, 'advisory'), 0)
    await other.query('rollback')
    const statuses = (await Promise.all([...changes, ...asked])).map(({ status }) => status)
    assert.deepEqual(new Set(statuses), new Set([200, 201]), statuses.join())
  } finally {
    await other.end()
  }
})

/** Holds up the commit of the first of many calls, by a lock on the table that all these calls write. */
async function otherCallsAreAnswered(
  t: TestContext,
  table: string,
  prepare: (stage: Stage) => Promise<() => Promise<{ status: number }>>,
): Promise<void> {
  let steps = 0
  const openDatabase = beforeSteps(new RegExp(`insert into ${table}`), async () => void steps++)
  const config = { webPush: { subject: 'mailto:operator@shop.example' } }
  const stage = await openStage(t, { engine: postgres, config, parts: { openDatabase } })
  const refresh = await tokensOf(stage)
  const call = await prepare(stage)
  const other = new Client({ connectionString: stage.database })
  await other.connect()
  try {
    await other.query(`begin; lock table ${table} in access exclusive mode`)
    const calls = Array.from({ length: many }, call)
    await until(async () => steps === many && (await countWaiting(other, 'relation')) === 1)
    assert.equal((await refresh()).status, 200)
    assert.equal(await countWaiting(other, 'advisory'), 0)
    await other.query('rollback')
    const statuses = (await Promise.all(calls)).map(({ status }) => status)
    assert.deepEqual(new Set(statuses.map((status) => Math.floor(status / 100))), new Set([2]), statuses.join())
  } finally {
    await other.end()
  }
}

/** Resolves to a function that refreshes the tokens of a client. */
async function tokensOf(stage: Stage) {
  const rung = await stage.ring('kiosk', { scope: 'openid offline_access' })
  await stage.decide(await stage.newestRequest(), 'approved')
  const { body } = await stage.poll('kiosk', rung.body.auth_req_id)
  const refresh_token = String(body.refresh_token)
  return () => stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token }, credentials.kiosk)
}

async function countWaiting(client: Client, type: 'relation' | 'advisory'): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `select cast(count(*) as int) as count from pg_locks where locktype = $1 and not granted
     and database = (select oid from pg_database where datname = current_database())`,
    [type],
  )
  return rows[0]!.count
}
