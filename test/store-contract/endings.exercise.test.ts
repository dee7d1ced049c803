/** The rows that each ending of a user or a client removes and keeps, also while other calls are in progress. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createPushSubscriptionStore } from '../../src/authentication-device/channels/push-subscription-store.ts'
import { createClientStore } from '../../src/client/client-store.ts'
import { toClient } from '../../src/client/configured-clients.ts'
import { endClient } from '../../src/endings/end-client.ts'
import { createEndUser, erasedAs, type UserEnding } from '../../src/endings/end-user.ts'
import { tablesOfUser } from '../../src/endings/ending-store.ts'
import { createErasureStore, erasureMs } from '../../src/endings/erasure-store.ts'
import { exportUser } from '../../src/endings/export-user.ts'
import { keptByTable } from '../../src/endings/user-data-store.ts'
import { createOidcModelStore } from '../../src/openid-provider/oidc-model-store.ts'
import type { Database, Value } from '../../src/platform/storage/database.ts'
import { createPasskeyStore } from '../../src/user/passkey/passkey-store.ts'
import { createUserCodeStore } from '../../src/user/user-code/user-code-store.ts'
import { createUserGenerationStore } from '../../src/user/user-generation-store.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { engines } from '../support/engines.ts'
import { allRows, furnished, insert, newRequest, vault } from '../support/rows.ts'

/**
 * The tables in which rows of a user stay after each ending. The list is written by hand, so that it does not depend on
 * the lists of the product.
 */
const evidence = [
  'backchannel_auth_consent_history',
  'backchannel_auth_requests',
  'notifications',
  'signed_requests',
  'user_generations',
]
const ofLocked = [
  ...evidence,
  'blocked_clients',
  'configured_users',
  'denial_pauses',
  'pairwise_subjects',
  'passkeys',
  'user_code_tries',
  'user_codes',
  'users',
]
const leftAfter: Record<UserEnding, string[]> = {
  signed_out: ofLocked,
  locked: ofLocked,
  removed: evidence,
  erased: [],
}

for (const engine of engines) {
  describe(`the tables of the endings, on ${engine.name}`, () => {
    for (const ending of ['signed_out', 'locked', 'removed', 'erased'] as UserEnding[]) {
      test(`keep of a user who is ${ending} only what the list says`, async (t) => {
        const { one, clock, log } = await furnished(t, engine)
        const { database } = one
        const endUser = createEndUser({ database, vault, clock, log, audit: () => {} })
        const before = await fill(database, clock.now())
        assert.deepEqual(Object.keys(before).sort(), Object.keys(keptByTable).sort(), 'there is something in each')
        await endUser('user-ana', ending, { by: 'command' })

        const deleting = tablesOfUser.filter((one) => one.in.includes(ending) && !one.deletesNothing)
        const taken = deleting.map(({ table }) => table)
        const left = (await exportUser('user-ana', undefined, { database })) ?? {}
        const gone = Object.keys(keptByTable).filter((table) => !(table in left))
        assert.deepEqual(gone.sort(), [...new Set(taken)].sort())
        const tables = Object.keys(left).filter((name) => name !== 'id')
        assert.deepEqual(tables.sort(), leftAfter[ending].toSorted())
        const bens = await keptAbout(database, 'user-ben')
        assert.deepEqual(Object.keys(bens).sort(), Object.keys(keptByTable).sort(), 'rows of other users stay')
        if (ending !== 'erased') return
        // An export finds these rows through the requests, which are removed. So the tables themselves are read.
        const remaining = async (table: string, key: string) =>
          (await allRows(database, table)).map((row) => row[key]).sort()
        assert.deepEqual(await remaining('signed_requests', 'request_id'), ['old ben'])
        assert.deepEqual(await remaining('notifications', 'id'), [
          'account of ben',
          'ben',
          'mail of ben',
          'push of ben',
        ])
        clock.advance(erasureMs)
        await createErasureStore(database, (id) => erasedAs(id, vault)).complete(clock.now(), 9)
        const everything = JSON.stringify(
          await Promise.all(Object.keys(keptByTable).map((table) => allRows(database, table))),
        )
        for (const word of ['user-ana', 'ana@example.com', 'Coffee for ana'])
          assert.ok(!everything.includes(word), word)
      })
    }

    test('keep of a removed client only what the list says, and its approvals cannot be collected', async (t) => {
      const { one, clock } = await furnished(t, engine)
      const { database } = one
      const clients = createClientStore(database)
      const metadata = { client_id: 'kiosk', redirect_uris: [], grant_types: [], response_types: [] }
      await clients.add(toClient({ ...metadata, token_endpoint_auth_method: 'none' } as never, vault), clock.now())
      await fill(database, clock.now())
      assert.equal(await clients.remove('kiosk', endClient('kiosk', clock.now())), true)
      const left = await allRows(database, 'oidc_models')
      assert.deepEqual(
        left.filter(({ client_id }) => client_id === 'kiosk'),
        [],
      )
      const open = await one.requests.list('open', clock.now() + 1)
      assert.deepEqual(open, [])
    })

    test('what is stored for a client while it is removed is not found when its id is registered again', async (t) => {
      const { one, clock } = await furnished(t, engine)
      const clients = createClientStore(one.database)
      const models = createOidcModelStore(one.database)
      const metadata = { client_id: 'kiosk', redirect_uris: [], grant_types: [], response_types: [] }
      const add = () =>
        clients.add(toClient({ ...metadata, token_endpoint_auth_method: 'none' } as never, vault), clock.now())
      const registrationOf = async () => (await allRows(one.database, 'clients'))[0]!.registration_id as string
      await add()
      const before = await registrationOf()
      await clients.remove('kiosk', endClient('kiosk', clock.now()))
      await add()
      // Without a grant, only the registration id shows to which of the two clients a token belongs.
      for (const [idHash, clientRegistration] of [
        ['before', before],
        ['after', await registrationOf()],
      ] as const) {
        const expiresAt = clock.now() + 9999
        const none = { grantHash: undefined, uidHash: undefined, userId: undefined, requestId: undefined }
        const kept = {
          model: 'ClientCredentials',
          idHash,
          sealed: 'x',
          clientId: 'kiosk',
          clientRegistration,
          expiresAt,
        }
        await models.run(models.put({ ...none, ...kept }))
        const found = await models.find('ClientCredentials', idHash, clock.now())
        assert.equal(found?.id_hash, idHash === 'after' ? 'after' : undefined)
      }
    })

    test('a generation begins with each ending, and all of a closed user stay closed', async (t) => {
      const { one, clock, log } = await furnished(t, engine)
      const endUser = createEndUser({ database: one.database, vault, clock, log, audit: () => {} })
      const generations = createUserGenerationStore(one.database)
      assert.deepEqual(await generations.find('u'), { generation: 0, isClosed: false })
      await endUser('u', 'signed_out', { by: 'command' })
      assert.deepEqual(await generations.find('u'), { generation: 1, isClosed: false })
      await endUser('u', 'locked', { by: 'command' })
      await endUser('u', 'signed_out', { by: 'command' })
      assert.deepEqual(await generations.find('u'), { generation: 3, isClosed: true })
    })

    for (const ending of ['locked', 'removed', 'erased'] as UserEnding[]) {
      test(`nothing is added for a user who is ${ending} by a call that began before`, async (t) => {
        const { one, clock, log } = await furnished(t, engine)
        const { database } = one
        const now = clock.now()
        const passkey = {
          publicKey: 'x',
          counter: 0,
          transports: [],
          name: undefined,
          createdAt: now,
          usedAt: undefined,
        }
        const passkeys = createPasskeyStore(database)
        const subscriptions = createPushSubscriptionStore(database)
        await createEndUser({ database, vault, clock, log, audit: () => {} })('user-ana', ending, { by: 'command' })
        for (const [userId, isAdded] of [
          ['user-ana', false],
          ['user-ben', true],
        ] as const) {
          assert.equal(await passkeys.add({ ...passkey, id: userId, userId, credentialId: userId }), isAdded)
          await subscriptions.add({ id: userId, userId, endpointHash: userId, sealed: 'x' }, now, 10)
          assert.equal((await subscriptions.listForUser(userId)).length, isAdded ? 1 : 0, userId)
        }
      })
    }

    test('a code that was hashed while its user was removed is not stored; for a locked user it is', async (t) => {
      const { one, clock, log } = await furnished(t, engine)
      const { database } = one
      const codes = createUserCodeStore(database)
      const users = createUserStore(database)
      const endUser = createEndUser({ database, vault, clock, log, audit: () => {} })
      const now = clock.now()
      for (const [ending, isKept] of [
        ['locked', true],
        ['removed', false],
        ['erased', false],
      ] as const) {
        const id = `user-${ending}`
        await users.add({ id }, now)
        await endUser(id, ending, { by: 'command' })
        assert.equal(await codes.put(id, 'scrypt.a.b', now), isKept, ending)
        assert.equal(await codes.replace(id, isKept ? 'scrypt.a.b' : undefined, 'scrypt.c.d', now), isKept, ending)
        assert.equal((await codes.find(id))?.hash, isKept ? 'scrypt.c.d' : undefined, ending)
      }
    })

    test('a call from before its user ended creates no request, even if the user is not closed', async (t) => {
      const { one, clock, log } = await furnished(t, engine)
      const endUser = createEndUser({ database: one.database, vault, clock, log, audit: () => {} })
      await endUser('user-ana', 'removed', { by: 'application', closes: false })
      const isAccepted = async (aheadMs: number) => {
        const request = newRequest(clock.now() + aheadMs)
        return one.requests.accept(request, request.id, { maxOpenPerUser: 99 })
      }
      // The clock of the node that received the request may be ahead of the clock of the node that ended the user.
      for (const aheadMs of [-60_000, -1, 0, 1, 50, 2_000, 4_999])
        assert.equal(await isAccepted(aheadMs), false, `${aheadMs}`)
      assert.equal(await isAccepted(5_000), true, 'a user who comes back can be asked')
    })

    test('a request from before its user signed out is accepted', async (t) => {
      const { one, clock, log } = await furnished(t, engine)
      const endUser = createEndUser({ database: one.database, vault, clock, log, audit: () => {} })
      for (let times = 1; times <= 2; times++) {
        const before = newRequest(clock.now(), { id: `before ${times}` })
        clock.advance(1000)
        await endUser('user-ana', 'signed_out', { by: 'command' })
        assert.equal(await one.requests.accept(before, before.id, { maxOpenPerUser: 9 }), true)
      }
    })

    test('of a removal and an addition at the same moment, the id is never given to another user', async (t) => {
      const { nodes, clock, log } = await furnished(t, engine, { count: 2 })
      const [here, there] = nodes.map(({ database }) => database) as [Database, Database]
      const endUser = createEndUser({ database: here, vault, clock, log, audit: () => {} })
      for (let number = 0; number < 60; number++) {
        const id = `u${number}`
        await createUserStore(here).add({ id, username: id }, clock.now())
        const [isRemoved, isAdded] = await Promise.all([
          endUser(id, 'removed', { mustBe: 'added', by: 'command' }),
          pause(number % 3).then(() => createUserStore(there).add({ id, username: `other ${id}` }, clock.now())),
        ])
        assert.deepEqual([isRemoved, isAdded], [true, false], id)
      }
    })

    test('of new requests and a lock at the same moment, no request stays open', async (t) => {
      const { nodes, clock, log } = await furnished(t, engine, { count: 2 })
      const [one, other] = nodes as [(typeof nodes)[0], (typeof nodes)[0]]
      const endUser = createEndUser({ database: other.database, vault, clock, log, audit: () => {} })
      const forty = Array.from({ length: 40 }, (_, number) => number)
      await Promise.all(
        forty.map((number) => {
          const request = newRequest(clock.now(), { id: `r${number}` })
          if (number === 20) return endUser('user-ana', 'locked', { by: 'command' })
          return one.requests.accept(request, request.id, { maxOpenPerUser: 99 })
        }),
      )
      assert.deepEqual(await one.requests.listForUser('user-ana', 'open', clock.now()), [])
      const late = newRequest(clock.now())
      assert.equal(await one.requests.accept(late, 'late', { maxOpenPerUser: 99 }), false)
    })
  })
}

/** Adds one row or more to each table, about Ana and about Ben. @returns what is stored about Ana */
async function fill(database: Database, now: number): Promise<Record<string, unknown>> {
  for (const name of ['ana', 'ben']) {
    const user = `user-${name}`
    const put = (table: string, row: Record<string, Value>) => insert(database, table, row)
    await put('users', { id: user, username: name, email: `${name}@example.com`, created_at: now })
    await put('configured_users', { user_id: user, since: now })
    await put('user_generations', { user_id: user, generation: 0, is_closed: 0, changed_at: now })
    const issued = { sealed: 'x', client_id: 'kiosk', user_id: user, expires_at: now + 9999 }
    await put('oidc_models', { model: 'Session', id_hash: `session ${name}`, ...issued, client_id: null })
    await put('oidc_models', { model: 'Grant', id_hash: `grant ${name}`, ...issued })
    await put('oidc_models', { model: 'RefreshToken', id_hash: name, grant_hash: `grant ${name}`, ...issued })
    const times = { signed_in_at: now, seen_at: now, expires_at: now + 9999 }
    await put('user_sessions', { id: name, user_id: user, uid_hash: name, browser: 'Firefox', ...times })
    await put('passkeys', {
      id: name,
      user_id: user,
      credential_id: name,
      public_key: 'x',
      counter: 0,
      created_at: now,
    })
    await put('push_subscriptions', { id: name, user_id: user, endpoint_hash: name, sealed: 'x', created_at: now })
    await put('user_codes', { user_id: user, hash: 'x', set_at: now })
    await put('user_code_tries', { counter: `user ${user}`, user_id: user, tries: 1, tried_at: now })
    await put('blocked_clients', { user_id: user, client_id: 'till', blocked_at: now })
    await put('denial_pauses', { user_id: user, client_id: 'till', pause: 1, paused_until: now })
    await put('pairwise_subjects', { subject: name, user_id: user, created_at: now })
    const request = {
      client_id: 'kiosk',
      user_id: user,
      scope: 'openid',
      binding_message: `Coffee for ${name}`,
      delivery_mode: 'poll',
      created_at: now - 1,
      expires_at: now + 600_000,
      interval_seconds: 5,
    }
    const settled = { status: 'redeemed', settled_by: 'x', settled_at: now, redeemed_at: now }
    await put('backchannel_auth_requests', {
      id: `old ${name}`,
      auth_req_id_hash: `old ${name}`,
      ...request,
      ...settled,
    })
    await put('backchannel_auth_requests', { id: `new ${name}`, auth_req_id_hash: name, ...request, status: 'pending' })
    await put('backchannel_auth_consent_history', {
      id: name,
      request_id: `old ${name}`,
      client_id: 'kiosk',
      user_id: user,
      outcome: 'approved',
      decided_by: 'user',
      scope: 'openid',
      binding_message: `Coffee for ${name}`,
      decided_at: now,
    })
    await put('signed_requests', { request_id: `old ${name}`, sealed: 'x', received_at: now })
    const message = { subject: `new ${name}`, state: 'waiting', created_at: now, due_at: now, give_up_at: now + 1 }
    await put('notifications', { id: name, kind: 'web_push', lane: `web_push/${user}`, ...message })
    await put('notifications', {
      id: `mail of ${name}`,
      kind: 'email',
      lane: 'email',
      ...message,
      subject: `old ${name}`,
    })
    // A push message of a request that was pruned before. Only its lane contains the id of the user.
    const ofPruned = { kind: 'web_push', lane: `web_push/${user}`, ...message, subject: `pruned ${name}` }
    await put('notifications', { id: `push of ${name}`, ...ofPruned })
    const ofAccount = { kind: 'account_email', lane: `user/${user}`, ...message, subject: user }
    await put('notifications', { id: `account of ${name}`, ...ofAccount })
  }
  return keptAbout(database, 'user-ana')
}

async function keptAbout(database: Database, userId: string): Promise<Record<string, unknown>> {
  const { id, ...rows } = (await exportUser(userId, undefined, { database })) ?? {}
  return rows
}
