/** The guarantees of the smaller stores, on both engines: clients, users, used assertions, oidc-provider's models. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createUsedAssertionStore } from '../../src/client/authentication/used-jti-store.ts'
import { type ClientStore, createClientStore, type RegisteredClient } from '../../src/client/client-store.ts'
import { registerConfigured, toClient } from '../../src/client/configured-clients.ts'
import type { ClientMetadata } from '../../src/client/metadata/client-metadata.ts'
import { endClient } from '../../src/endings/end-client.ts'
import { collectWrites, createAdapterFactory } from '../../src/openid-provider/oidc-adapter.ts'
import { createOidcModelStore } from '../../src/openid-provider/oidc-model-store.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { type Engine, engines } from '../support/engines.ts'
import { allRows, furnished, vault } from '../support/rows.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  describe(`clients, on ${engine.name}`, () => {
    test('a client is found as it was added, without its secret', async (t) => {
      const { clients, clock, database } = await stores(t, engine)
      const client = toClient(metadata('northbank', { client_secret: 'a secret of some length' }), vault)
      assert.equal(await clients.add(client, clock.now()), true)
      const { registrationId, ...found } = (await clients.find('northbank'))!
      assert.ok(registrationId)
      assert.deepEqual(found, client)
      assert.deepEqual(await listed(clients), [{ client: { ...client, registrationId }, origin: 'command' }])
      assert.equal(await clients.find('kiosk'), undefined)
      assert.ok(!JSON.stringify(await allRows(database, 'clients')).includes('a secret of'))
    })

    test('an id is given once, also of forty additions at once', async (t) => {
      const { clients, clock } = await stores(t, engine)
      const adding = Array.from({ length: 40 }, (_, n) => {
        return clients.add(toClient(metadata('same', { client_name: `${n}` }), vault), clock.now())
      })
      const added = await Promise.all(adding)
      assert.equal(added.filter(Boolean).length, 1)
      assert.equal((await clients.find('same'))!.metadata.client_name, `${added.indexOf(true)}`)
    })

    test("a client's own changes stay until the configuration changes", async (t) => {
      const { clients, clock } = await stores(t, engine)
      const configure = (...configured: ClientMetadata[]) =>
        registerConfigured(configured, { clients, vault, now: clock.now(), endings: endClient })
      const modeOf = async () => (await clients.find('northbank'))!.deliveryMode
      await configure(metadata('northbank'))
      assert.equal(await modeOf(), 'ping')
      assert.equal(await clients.changeDelivery({ id: 'northbank' }, 'poll', undefined, clock.now()), true)
      assert.deepEqual([await modeOf(), (await clients.find('northbank'))!.notificationEndpoint], ['poll', undefined])
      await configure(metadata('northbank'))
      assert.equal(await modeOf(), 'poll', 'the same configuration again')
      await configure(metadata('northbank', { client_secret: 'a new one' }))
      assert.equal(await modeOf(), 'ping', 'another one, be it only the secret')
    })

    test('a client that leaves the configuration is removed; one that was added by command is not', async (t) => {
      const { clients, clock } = await stores(t, engine)
      const needs = { clients, vault, now: clock.now(), endings: endClient }
      await clients.add(toClient(metadata('by-command'), vault), clock.now())
      await registerConfigured([metadata('one'), metadata('two'), metadata("d'or")], needs)
      assert.deepEqual((await registerConfigured([metadata('one')], needs)).sort(), ["d'or", 'two'])
      const left = (await listed(clients)).map(({ client, origin }) => [client.id, origin])
      assert.deepEqual(left, [
        ['by-command', 'command'],
        ['one', 'config'],
      ])
      // The configuration takes over a client that a command had added.
      await registerConfigured([metadata('by-command')], needs)
      assert.deepEqual(
        (await listed(clients)).map(({ client, origin }) => [client.id, origin]),
        [['by-command', 'config']],
      )
    })

    test('delivery settings change only for CIBA clients, and only to valid combinations', async (t) => {
      const { clients, clock } = await stores(t, engine)
      const {
        backchannel_token_delivery_mode: _,
        backchannel_client_notification_endpoint: __,
        ...plain
      } = metadata('app')
      await clients.add(toClient(plain, vault), clock.now())
      await clients.add(toClient(metadata('northbank'), vault), clock.now())
      assert.equal(await clients.changeDelivery({ id: 'app' }, 'poll', undefined, clock.now()), false)
      assert.equal(await clients.changeDelivery({ id: 'nobody' }, 'poll', undefined, clock.now()), false)
      await assert.rejects(clients.changeDelivery({ id: 'northbank' }, 'push', undefined, clock.now()), /constraint/i)
      await assert.rejects(
        clients.changeDelivery({ id: 'northbank' }, 'poll', 'https://a.example', clock.now()),
        /constraint/i,
      )
      assert.equal(await clients.changeDelivery({ id: 'northbank' }, 'push', 'https://a.example/', clock.now()), true)
      const { metadata: now } = (await clients.find('northbank'))!
      assert.deepEqual(
        [now.backchannel_token_delivery_mode, now.backchannel_client_notification_endpoint],
        ['push', 'https://a.example/'],
      )
    })

    test('every change is announced, and an update without a change is not', async (t) => {
      const { clients, clock, database } = await stores(t, engine)
      const heard: string[] = []
      database.listen('client', (key) => heard.push(key || 'all'))
      const needs = { clients, vault, now: clock.now(), endings: endClient }
      await registerConfigured([metadata('a'), metadata('b')], needs)
      await registerConfigured([metadata('a'), metadata('b')], needs)
      await clients.changeDelivery({ id: 'a' }, 'poll', undefined, clock.now())
      await clients.remove('b', [])
      assert.equal(await clients.remove('b', []), false)
      await registerConfigured([], needs)
      await database.step({ sql: 'select 1 as one', values: [] }, { announce: [{ topic: 'client', key: 'end' }] })
      await until(() => heard.includes('end'))
      // The first two clients are registered at the same time, so their order may vary.
      assert.deepEqual([...heard.slice(0, 2).sort(), ...heard.slice(2)], ['a', 'b', 'a', 'b', 'a', 'end'])
    })
  })

  describe(`users, on ${engine.name}`, () => {
    const ana = {
      id: 'u1',
      username: 'ana',
      email: 'Ana@Example.com',
      phone_number: '+34600000001',
      name: 'Ana',
      locale: 'es',
      claims: { zoneinfo: 'Europe/Madrid' },
      passwordHash: 'scrypt.x.y',
    }

    test('a user is found by every identifier a client may use', async (t) => {
      const { users, clock } = await stores(t, engine)
      assert.equal(await users.add(ana, clock.now()), true)
      const kept = { ...ana, email: 'ana@example.com', disabled: false }
      assert.deepEqual(await users.find('u1'), kept)
      for (const hint of ['u1', 'ana', 'Ana', 'ANA', 'ana@example.com', 'ANA@example.com', '+34600000001']) {
        assert.deepEqual(await users.findByIdentifier(hint), kept, hint)
      }
      for (const unknown of ['', 'an', 'ana%', "ana' or '1'='1"]) {
        assert.equal(await users.findByIdentifier(unknown), undefined, unknown)
      }
      assert.equal(await users.find('ana'), undefined)
      assert.equal(await users.add({ id: 'u2', username: 'ANA' }, clock.now()), true)
      assert.equal((await users.findByIdentifier('ANA'))?.id, 'u2', 'the same letter case comes first')
      assert.equal((await users.findByIdentifier('Ana'))?.id, 'u1')
    })

    test('no two users share an id or an identifier', async (t) => {
      const { users, clock } = await stores(t, engine)
      await users.add(ana, clock.now())
      for (const taken of [
        { id: 'u1' },
        { username: 'ana' },
        { email: 'ANA@EXAMPLE.COM' },
        { phone_number: ana.phone_number },
      ]) {
        assert.equal(await users.add({ id: 'u2', ...taken }, clock.now()), false, JSON.stringify(taken))
      }
      assert.equal(await users.add({ id: 'u2', disabled: true }, clock.now()), true)
      assert.deepEqual(await users.list(), [(await users.find('u1'))!, { id: 'u2', disabled: true }])
    })

    test('a phone number is found in every spelling, and no other user may have it in another spelling', async (t) => {
      const { users, clock } = await stores(t, engine)
      await users.add({ id: 'u1', phone_number: '+49 (151) 23-45.67' }, clock.now())
      await users.add({ id: 'u2', username: '+49151234568' }, clock.now())
      for (const hint of ['+49 (151) 23-45.67', '+491512345 67', '+49151234567', 'tel:+49-151-234567']) {
        assert.equal((await users.findByIdentifier(hint))?.id, 'u1', hint)
      }
      for (const unknown of ['49151234567', '+4915123456', '+491512345678', 'tel:+49151234567;ext=1', '+', '-']) {
        assert.equal(await users.findByIdentifier(unknown), undefined, unknown)
      }
      assert.equal(await users.add({ id: 'u3', phone_number: '+49151234567' }, clock.now()), false)
      assert.equal(await users.add({ id: 'u3', phone_number: '+49151234568' }, clock.now()), true)
      assert.equal((await users.findByIdentifier('+49151234568'))!.id, 'u2', 'an exact identifier has priority')
    })

    test('a number that two users have in different spellings, as earlier versions allowed, finds neither of them', async (t) => {
      const { users, clock, database } = await stores(t, engine)
      await users.add({ id: 'u1', phone_number: '+49 151' }, clock.now())
      await users.add({ id: 'u2' }, clock.now())
      await database.step({ sql: "update users set phone_number = '+49-151' where id = 'u2' returning id", values: [] })
      assert.equal(await users.findByIdentifier('+49151'), undefined)
      assert.equal((await users.findByIdentifier('+49-151'))!.id, 'u2')
    })

    test("an id has priority over another user's username", async (t) => {
      const { users, clock } = await stores(t, engine)
      await users.add({ id: 'u1', username: 'u2' }, clock.now())
      await users.add({ id: 'u2', username: 'u1' }, clock.now())
      assert.equal((await users.findByIdentifier('u1'))!.id, 'u1')
      assert.equal((await users.findByIdentifier('u2'))!.id, 'u2')
    })
  })

  describe(`used assertions, on ${engine.name}`, () => {
    test('of forty uses at once, at two nodes, one is the first', async (t) => {
      const { nodes, clock } = await furnished(t, engine, { count: 2 })
      const used = nodes.map(({ database }) => createUsedAssertionStore(database))
      const uses = Array.from({ length: 40 }, (_, n) => used[n % 2]!.use('kiosk', 'a jti', clock.now() + 1000))
      assert.equal((await Promise.all(uses)).filter(Boolean).length, 1)
      assert.equal(await used[0]!.use('northbank', 'a jti', clock.now() + 1000), true, "another client's")
      assert.equal(await used[1]!.use('kiosk', 'another jti', clock.now() + 1000), true)
    })

    test('a use is remembered until the assertion has expired, and no longer', async (t) => {
      const { database, clock } = await stores(t, engine)
      const used = createUsedAssertionStore(database)
      await used.use('kiosk', 'a jti', clock.now() + 1000)
      await used.forgetExpired(clock.now() + 1000, 9)
      assert.equal(await used.use('kiosk', 'a jti', clock.now() + 1000), false)
      await used.forgetExpired(clock.now() + 1001, 9)
      assert.equal(await used.use('kiosk', 'a jti', clock.now() + 1000), true)
    })
  })

  describe(`models of oidc-provider, on ${engine.name}`, () => {
    const payload = {
      accountId: 'user-ana',
      clientId: 'kiosk',
      grantId: 'the grant',
      uid: 'a uid',
      kind: 'AccessToken',
    }

    test('a model is found by its id and its uid until it expires, and is stored encrypted', async (t) => {
      const { adapter, clock, database } = await models(t, engine)
      const tokens = adapter('AccessToken')
      await tokens.upsert('the-token', payload, 60)
      assert.deepEqual(await tokens.find('the-token'), payload)
      assert.deepEqual(await tokens.findByUid('a uid'), payload)
      assert.equal(await adapter('RefreshToken').find('the-token'), undefined, 'another model')
      const raw = JSON.stringify(await allRows(database, 'oidc_models'))
      for (const secret of ['the-token', 'the grant', 'a uid']) assert.ok(!raw.includes(secret), secret)

      await tokens.upsert('the-token', { ...payload, scope: 'more' }, 60)
      assert.equal((await tokens.find('the-token'))!.scope, 'more', 'it can be replaced')
      clock.advance(59_999)
      assert.ok(await tokens.find('the-token'))
      clock.advance(1)
      assert.equal(await tokens.find('the-token'), undefined)
      assert.equal(await tokens.findByUid('a uid'), undefined)
    })

    test('of forty uses of a code at once, one succeeds', async (t) => {
      const { adapter } = await models(t, engine)
      const codes = adapter('AuthorizationCode')
      await codes.upsert('the-code', payload, 60)
      const uses = await Promise.allSettled(Array.from({ length: 40 }, () => codes.consume('the-code')))
      assert.equal(uses.filter(({ status }) => status === 'fulfilled').length, 1)
      for (const use of uses) if (use.status === 'rejected') assert.equal(use.reason.error, 'invalid_grant')
      assert.ok((await codes.find('the-code'))!.consumed)
    })

    test('revoking a grant removes everything issued from it, and nothing else', async (t) => {
      const { adapter } = await models(t, engine)
      await adapter('AccessToken').upsert('one', payload, 60)
      await adapter('RefreshToken').upsert('two', payload, 60)
      await adapter('AccessToken').upsert('three', { ...payload, grantId: 'another' }, 60)
      await adapter('AccessToken').revokeByGrantId('the grant')
      assert.equal(await adapter('AccessToken').find('one'), undefined)
      assert.equal(await adapter('RefreshToken').find('two'), undefined)
      assert.ok(await adapter('AccessToken').find('three'))
      await adapter('AccessToken').destroy('three')
      assert.equal(await adapter('AccessToken').find('three'), undefined)
    })

    test('collected writes are not executed until the caller executes them', async (t) => {
      const { adapter, database } = await models(t, engine)
      const [result, statements] = await collectWrites('the request', async () => {
        await adapter('Grant').upsert('a grant', payload, 60)
        await adapter('AccessToken').upsert('a token', payload, 60)
        return 'done'
      })
      assert.equal(result, 'done')
      assert.equal((await allRows(database, 'oidc_models')).length, 2, 'the grants it began with')
      await adapter('AccessToken').upsert('beside', payload, 60)
      assert.equal((await allRows(database, 'oidc_models')).length, 3, 'other writes are executed as usual')

      await database.step({ sql: 'select 1 as one', values: [] }, { also: statements })
      const of = await database.read("select model from oidc_models where request_id = 'the request' order by model")
      assert.deepEqual(of, [{ model: 'AccessToken' }, { model: 'Grant' }])
      assert.deepEqual(await adapter('AccessToken').find('a token'), payload)
    })

    test('expired models are deleted, models without expiry are not', async (t) => {
      const { adapter, database, clock, store } = await models(t, engine)
      await adapter('AccessToken').upsert('short', payload, 60)
      await adapter('Grant').upsert('for ever', payload, undefined as never)
      await store.forgetExpired(clock.now() + 60_000, 9)
      assert.equal((await allRows(database, 'oidc_models')).length, 4)
      await store.forgetExpired(clock.now() + 60_001, 9)
      assert.deepEqual(
        (await allRows(database, 'oidc_models')).map(({ model }) => model),
        ['Grant', 'Grant', 'Grant'],
      )
    })
  })
}

function metadata(id: string, more: Partial<ClientMetadata> = {}): ClientMetadata {
  return {
    client_id: id,
    redirect_uris: [],
    grant_types: ['urn:openid:params:grant-type:ciba'],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_basic',
    backchannel_token_delivery_mode: 'ping',
    backchannel_client_notification_endpoint: 'https://client.example/notify',
    ...more,
  }
}

async function listed(clients: ClientStore): Promise<RegisteredClient[]> {
  const all = []
  for await (const page of clients.pages()) all.push(...page)
  return all
}

async function stores(t: TestContext, engine: Engine) {
  const { one, clock } = await furnished(t, engine)
  const { database } = one
  return { database, clock, clients: createClientStore(database), users: createUserStore(database) }
}

/** Tokens that are issued belong to a registered client and to a grant. */
async function models(t: TestContext, engine: Engine) {
  const { one, clock } = await furnished(t, engine)
  const store = createOidcModelStore(one.database)
  const adapter = createAdapterFactory({
    places: { ended() {} },
    knownTokens: { add() {} },
    makeRoomForSession: async () => undefined,
    narrow: async (_model, payload) => payload,
    keepsStrangers: false,
    models: store,
    findClient: async () => undefined,
    vault,
    clock,
  })
  await createClientStore(one.database).add(toClient(metadata('kiosk'), vault), clock.now())
  for (const grant of ['the grant', 'another']) await adapter('Grant').upsert(grant, { clientId: 'kiosk' }, 9999)
  return { database: one.database, clock, store, adapter }
}
