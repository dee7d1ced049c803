/**
 * A session ends while a transaction that writes for its user is in progress. The transaction that ends the session
 * waits for the writing transaction, and ends what that transaction wrote. On Postgres only, because SQLite runs one
 * transaction after the other.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client } from 'pg'
import { createPushSubscriptionStore } from '../../src/authentication-device/channels/push-subscription-store.ts'
import { createBlockedClientStore } from '../../src/ciba/request-limits/blocked-client-store.ts'
import { createEndUser } from '../../src/endings/end-user.ts'
import { createSessionEndingStore } from '../../src/endings/session-ending-store.ts'
import { createUserSessionStore } from '../../src/endings/user-session-store.ts'
import { createOidcModelStore, type KeptModel } from '../../src/openid-provider/oidc-model-store.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { engines } from '../support/engines.ts'
import { holdStatements } from '../support/held-statements.ts'
import { allRows, furnished, vault } from '../support/rows.ts'
import { until } from '../support/until.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!

const endings: Record<string, (database: Database, now: number) => Promise<unknown>> = {
  'ends in the list of sessions': (database, now) => createUserSessionStore(database).end('ana', 'phone', now, []),
  'ends together with all others': (database, now) => createUserSessionStore(database).endAll('ana', now, []),
  'ends because its user signs out': (database, now) =>
    createSessionEndingStore(database).end(
      { sessions: ['uid'], grants: ['grant'], tokens: ['token'], endpoints: [], users: ['ana'] },
      now,
      [],
    ),
  'ends because the operator signs the user out': (database, now) =>
    createEndUser({
      database,
      vault,
      clock: { now: () => now, after: () => () => {} },
      log: createLog('silent'),
      audit: () => {},
    })('ana', 'signed_out', { by: 'command' }),
}

for (const [how, end] of Object.entries(endings)) {
  test(`a push subscription that is being stored does not stay when its session ${how}`, async (t) => {
    const { url, one, other, clock } = await furnished(t, postgres, { count: 2 })
    await signIn(one.database, clock.now())
    const held = await holdInserts(url)

    const subscription = { id: 's', userId: 'ana', endpointHash: 'e', sealed: 'x' }
    const adding = createPushSubscriptionStore(one.database).add(subscription, clock.now(), 10, 'token')
    await until(async () => (await held.waiting()) === 1)
    let isEnded = false
    const ending = end(other.database, clock.now()).then(() => {
      isEnded = true
    })
    await until(async () => isEnded || (await held.waiting()) === 2)
    assert.equal(isEnded, false, 'the ending waits for the open transaction')
    await held.release()
    assert.equal(await adding, true)
    await ending
    assert.deepEqual(await allRows(one.database, 'push_subscriptions'), [])
    assert.equal(await createPushSubscriptionStore(one.database).add(subscription, clock.now(), 10, 'token'), false)
  })
}

for (const [how, end] of Object.entries(endings)) {
  test(`a client is being unblocked when the session ${how}: the ending waits`, async (t) => {
    const { url, one, other, clock } = await furnished(t, postgres, { count: 2 })
    await signIn(one.database, clock.now())
    const blockedClients = createBlockedClientStore(one.database)
    await one.database.step(blockedClients.blocking('ana', 'kiosk', clock.now()))
    const held = await holdStatements(t, url, 'delete', 'blocked_clients')

    const pair = { userId: 'ana', clientId: 'kiosk', tokenHash: 'token' }
    const unblocking = blockedClients.unblock(pair)
    await until(async () => (await held.waiting()) === 1)
    let isEnded = false
    const ending = end(other.database, clock.now()).then(() => {
      isEnded = true
    })
    await until(async () => isEnded || (await held.waitingForKeys()) === 1)
    assert.equal(isEnded, false, 'the ending waits for the open transaction')
    await held.release()
    assert.equal(await unblocking, true)
    await ending
    assert.deepEqual(await allRows(one.database, 'blocked_clients'), [])
    assert.equal(await blockedClients.unblock(pair), false)
  })
}

/** Stores a session of Ana with a token. */
async function signIn(database: Database, now: number): Promise<void> {
  const models = createOidcModelStore(database)
  const common = {
    sealed: 'x',
    grantHash: undefined,
    uidHash: undefined,
    clientId: undefined,
    userId: 'ana',
    requestId: undefined,
    expiresAt: now + 3600_000,
  }
  const kept: KeptModel[] = [
    { ...common, model: 'Session', idHash: 'session', uidHash: 'uid' },
    { ...common, model: 'Grant', idHash: 'grant' },
    { ...common, model: 'AccessToken', idHash: 'token', grantHash: 'grant', uidHash: 'uid' },
  ]
  for (const model of kept) await models.run(models.put(model))
  const noted = { id: 'phone', uidHash: 'uid', browser: '', signedInAt: now, now }
  await createUserSessionStore(database).note(noted)
}

/** Holds every insert of a push subscription inside its transaction. */
async function holdInserts(url: string) {
  const client = new Client({ connectionString: url })
  // The database is dropped after the test, which ends this connection.
  client.on('error', () => {})
  await client.connect()
  await client.query(`create function hold() returns trigger language plpgsql as $$
      begin perform pg_advisory_xact_lock(424242); return new; end $$;
    create trigger hold before insert on push_subscriptions for each row execute function hold()`)
  await client.query('select pg_advisory_lock(424242)')
  return {
    /** Resolves to the number of transactions that wait for a lock. */
    async waiting(): Promise<number> {
      const { rows } = await client.query(
        `select count(*)::int as count from pg_locks join pg_database on pg_database.oid = database
         where locktype = 'advisory' and not granted and datname = current_database()`,
      )
      return rows[0].count
    },
    release: () => client.query('select pg_advisory_unlock(424242)'),
  }
}
