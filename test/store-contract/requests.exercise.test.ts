/** The guarantees of the authentication requests' store, on both engines: storing, counting, polling and listing. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createRequestStore } from '../../src/ciba/authentication-request/authentication-request-store.ts'
import { fingerprint, newId } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { allRows, approval, furnished, newMessage, newRequest } from '../support/rows.ts'
import { until } from '../support/until.ts'

const many = { maxOpenPerUser: 1000 }
const broken = { sql: 'insert into no_such_table values (1) returning 1', values: [] }

for (const engine of engines) {
  describe(`authentication requests, on ${engine.name}`, () => {
    test('an accepted request is found as it was, by its id and by the hash of auth_req_id', async (t) => {
      const { clock, one, other } = await furnished(t, engine, { count: 2 })
      const more = {
        authorizationDetails: [{ type: 'tea', cups: [1, { of: 'é\'"' }] }],
        resources: ['urn:tea'],
        claims: { id_token: { email: null, name: { essential: true } } },
      }
      const request = newRequest(clock.now(), { deliveryMode: 'push', acrValues: 'urn:one urn:two', ...more })
      assert.equal(await one.requests.accept(request, 'its-auth-req-id', many), true)
      const nobodyYet = { acr: undefined, amr: undefined, authTime: undefined }
      const expected = { ...request, authentication: nobodyYet }
      assert.deepEqual(await other.requests.find(request.id), expected)
      assert.deepEqual(await other.requests.findByAuthReqId('its-auth-req-id'), expected)
      assert.equal(await other.requests.findByAuthReqId(request.id), undefined)
      const [row] = await allRows(one.database, 'backchannel_auth_requests')
      assert.equal(row!.auth_req_id_hash, fingerprint('its-auth-req-id'))
      assert.ok(!JSON.stringify(row).includes('its-auth-req-id'))
    })

    test('the limit of open requests of a user holds, however many come at once, to whichever node', async (t) => {
      const { clock, one, other } = await furnished(t, engine, { count: 2 })
      const facts = [{ sql: 'select 1', values: [] }]
      const sendRequest = (userId: string, number: number) => {
        const request = newRequest(clock.now(), { userId })
        return (number % 2 ? one : other).requests.accept(request, newId(clock.now()), { maxOpenPerUser: 5 }, { facts })
      }
      const numbers = Array.from({ length: 40 }, (_, number) => number)
      // All connections are opened before the calls, so that the calls really arrive at once.
      await Promise.all(numbers.map((number) => (number % 2 ? one : other).requests.find('nobody')))
      const [ana, ben] = await Promise.all([
        Promise.all(numbers.map((number) => sendRequest('user-ana', number))),
        Promise.all(numbers.slice(0, 3).map((number) => sendRequest('user-ben', number))),
      ])
      assert.equal(ana.filter(Boolean).length, 5)
      assert.equal(ben.filter(Boolean).length, 3)
      assert.equal((await one.requests.listForUser('user-ana', 'all', clock.now())).length, 5)
    })

    test("a client's requests in a minute are counted over all users and all nodes, and two counts at once do not deadlock (M31)", async (t) => {
      const { clock, one, other } = await furnished(t, engine, { count: 2 })
      const limits = { ...many, perClient: { perMinute: 5 }, perClientAndUser: { open: 4 } }
      const numbers = Array.from({ length: 40 }, (_, number) => number)
      await Promise.all(numbers.map((number) => (number % 2 ? one : other).requests.find('nobody')))
      const accepted = await Promise.all(
        numbers.map((number) => {
          const request = newRequest(clock.now(), { userId: number % 3 ? 'user-ana' : 'user-ben' })
          return (number % 2 ? one : other).requests.accept(request, newId(clock.now()), limits)
        }),
      )
      assert.equal(accepted.filter(Boolean).length, 5)
      const about = { userId: 'user-ana', clientId: 'kiosk' }
      const now = clock.now()
      assert.deepEqual(await one.requests.obstacleTo(about, { ...many, perClient: { perMinute: 5 } }, now), {
        limit: 'perClient.perMinute',
        until: now + 60_000,
      })
      clock.advance(60_000)
      assert.equal(
        await one.requests.obstacleTo(about, { ...many, perClient: { perMinute: 5 } }, clock.now()),
        undefined,
      )
    })

    test('only open requests count: decided or expired ones leave room', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const sendRequest = async (more = {}) => {
        const request = newRequest(clock.now(), more)
        const kept = await one.requests.accept(request, request.id, { maxOpenPerUser: 2 })
        return kept ? request : undefined
      }
      const first = await sendRequest()
      await sendRequest({ expiresAt: clock.now() + 1000 })
      assert.equal(await sendRequest(), undefined)
      await one.requests.settle(first!.id, approval(clock.now()))
      assert.ok(await sendRequest())
      assert.equal(await sendRequest(), undefined)
      clock.advance(1000)
      assert.ok(await sendRequest())
    })

    test('rows that belong to a new request are stored with it, and not without it', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const notifications = () => [newMessage(clock.now())]
      const [kept, refused, failed] = [1, 2, 3].map(() => newRequest(clock.now()))
      const heard: string[] = []
      one.database.listen('outbox', (key) => heard.push(key))
      assert.equal(
        await one.requests.accept(kept!, 'a', { maxOpenPerUser: 1 }, { notifications: notifications() }),
        true,
      )
      assert.equal(
        await one.requests.accept(refused!, 'b', { maxOpenPerUser: 1 }, { notifications: notifications() }),
        false,
      )
      await assert.rejects(one.requests.accept(failed!, 'c', many, { facts: [broken], notifications: notifications() }))
      assert.equal((await allRows(one.database, 'notifications')).length, 1)
      assert.equal((await allRows(one.database, 'backchannel_auth_requests')).length, 1)
      await one.database.step({ sql: 'select 1 as one', values: [] }, { announce: [{ topic: 'outbox', key: 'end' }] })
      await until(() => heard.includes('end'))
      assert.deepEqual(heard, [kept!.id, 'end'])
    })

    test('the first poll is never too early; one before the interval is over adds five seconds', async (t) => {
      const { clock, one } = await furnished(t, engine)
      await one.requests.accept(newRequest(clock.now()), 'a', many)
      const poll = async (after: number) => {
        clock.advance(after)
        const { request, tooEarly } = (await one.requests.poll('a', 'kiosk', clock.now()))!
        return [tooEarly, request.interval]
      }
      assert.deepEqual(await poll(0), [false, 5])
      assert.deepEqual(await poll(4_499), [true, 10])
      assert.deepEqual(await poll(10_000), [false, 10])
      assert.deepEqual(await poll(8_999), [true, 15])
      assert.deepEqual(await poll(0), [true, 20])
      assert.deepEqual(await poll(20_000), [false, 20])
    })

    test('of ten polls at the same moment one is in time, and each of the others counts', async (t) => {
      const { clock, one, other } = await furnished(t, engine, { count: 2 })
      await one.requests.accept(newRequest(clock.now()), 'a', many)
      const stores = [one, other].map(({ database }) => createRequestStore(database, { longestInterval: 100 }))
      const polls = await Promise.all(
        Array.from({ length: 10 }, (_, n) => stores[n % 2]!.poll('a', 'kiosk', clock.now())),
      )
      assert.equal(polls.filter((poll) => !poll!.tooEarly).length, 1)
      assert.equal((await one.requests.findByAuthReqId('a'))!.interval, 5 + 9 * 5)
    })

    test("another client's request is treated as unknown, and its poll leaves nothing behind", async (t) => {
      const { clock, one } = await furnished(t, engine)
      await one.requests.accept(newRequest(clock.now()), 'a', many)
      const before = await allRows(one.database, 'backchannel_auth_requests')
      assert.equal(await one.requests.poll('a', 'northbank', clock.now()), undefined)
      assert.equal(await one.requests.poll('b', 'kiosk', clock.now()), undefined)
      assert.deepEqual(await allRows(one.database, 'backchannel_auth_requests'), before)
    })

    test('a request that is decided or expired is never polled too early', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const decided = newRequest(clock.now())
      const over = newRequest(clock.now(), { expiresAt: clock.now() + 1000 })
      await one.requests.accept(decided, 'decided', many)
      await one.requests.accept(over, 'over', many)
      for (const name of ['decided', 'over']) await one.requests.poll(name, 'kiosk', clock.now())
      await one.requests.settle(decided.id, approval(clock.now()))
      clock.advance(1000)
      for (const name of ['decided', 'over']) {
        const poll = await one.requests.poll(name, 'kiosk', clock.now())
        assert.deepEqual([poll!.tooEarly, poll!.request.interval], [false, 5])
      }
    })

    test('lists are of one user, newest first; the open list leaves out settled and expired requests', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const sendRequest = async (more = {}) => {
        const request = newRequest(clock.now(), more)
        await one.requests.accept(request, request.id, many)
        clock.advance(1000)
        return request.id
      }
      const settled = await sendRequest()
      const over = await sendRequest({ expiresAt: clock.now() + 1500 })
      const open = await sendRequest()
      const bens = await sendRequest({ userId: 'user-ben' })
      const newest = await sendRequest()
      await one.requests.settle(settled, approval(clock.now()))
      const ids = (requests: { id: string }[]) => requests.map(({ id }) => id)
      const now = clock.now()
      assert.deepEqual(ids(await one.requests.listForUser('user-ana', 'open', now)), [newest, open])
      assert.deepEqual(ids(await one.requests.listForUser('user-ana', 'all', now)), [newest, open, over, settled])
      assert.deepEqual(ids(await one.requests.listForUser('user-ana', 'all', now, 2)), [newest, open])
      assert.deepEqual(ids(await one.requests.list('open', now)), [newest, bens, open])
      assert.deepEqual(ids(await one.requests.list('all', now, 3)), [newest, bens, open])
    })

    test('the table refuses rows that contradict the states', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const request = newRequest(clock.now(), { deliveryMode: 'ping' })
      await one.requests.accept(request, 'a', many)
      const nonsense = [
        "status = 'maybe'",
        "status = 'approved'",
        'settled_at = 1',
        "settled_by = 'me'",
        "status = 'redeemed', settled_at = 1, settled_by = 'me'",
        'redeemed_at = 1',
        'notification_endpoint = null',
        "delivery_mode = 'poll'",
        "delivery_mode = 'pigeon'",
        'expires_at = created_at',
      ]
      for (const sets of nonsense) {
        const sql = `update backchannel_auth_requests set ${sets} returning id`
        await assert.rejects(one.database.step({ sql, values: [] }), /constraint/i, sets)
      }
      const twice = newRequest(clock.now())
      await assert.rejects(one.requests.accept(twice, 'a', many), /unique/i, 'one auth_req_id, two requests')
    })
  })
}
