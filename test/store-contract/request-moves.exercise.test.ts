/** The guarantees of the transitions of authentication requests, on both engines: each happens once, or not at all. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { expire } from '../../src/ciba/decision/decide.ts'
import { engines } from '../support/engines.ts'
import { allRows, approval, furnished, newMessage, newRequest } from '../support/rows.ts'
import { until } from '../support/until.ts'

const many = { maxOpenPerUser: 1000 }
const broken = { sql: 'insert into no_such_table values (1) returning 1', values: [] }

for (const engine of engines) {
  describe(`transitions of authentication requests, on ${engine.name}`, () => {
    for (const deliveryMode of ['poll', 'ping', 'push'] as const) {
      test(`of twenty approvals and twenty denials at the same moment one takes effect (${deliveryMode})`, async (t) => {
        const { clock, one, other } = await furnished(t, engine, { count: 2 })
        const request = newRequest(clock.now(), { deliveryMode })
        await one.requests.accept(request, 'a', many)
        const results = await Promise.all(
          Array.from({ length: 40 }, (_, number) =>
            (number % 2 ? one : other).decide({
              requestId: request.id,
              userId: 'user-ana',
              outcome: number % 4 < 2 ? 'approved' : 'denied',
              decidedBy: 'application',
            }),
          ),
        )
        const settled = results.filter((result) => result.kind === 'settled')
        assert.equal(settled.length, 1)
        const { status } = settled[0]!
        for (const result of results) {
          if (result.kind !== 'settled') assert.deepEqual(result, { kind: 'already decided', status })
        }
        const history = await one.decisions.listForRequest(request.id)
        assert.deepEqual(
          history.map(({ outcome }) => outcome),
          [status],
        )
        const stored = await allRows(one.database, 'notifications')
        assert.deepEqual(
          stored.map(({ kind, subject }) => [kind, subject]),
          deliveryMode === 'poll' ? [] : [[deliveryMode, request.id]],
        )
        const [row] = await allRows(one.database, 'backchannel_auth_requests')
        assert.deepEqual([row!.status, row!.settled_by, row!.settled_at], [status, history[0]!.id, clock.now()])
      })
    }

    test('of transitions in one batch each succeeds or not by itself, with its consequences', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const requests = Array.from({ length: 40 }, (_, number) => newRequest(clock.now(), { userId: `user-${number}` }))
      const kept = await Promise.all(requests.map((request) => one.requests.accept(request, request.id, many)))
      assert.ok(kept.every(Boolean))
      const messageOf = ({ id }: { id: string }) => ({ ...newMessage(clock.now()), subject: id })
      const isTheirs = (_: unknown, number: number) => number % 4 > 0
      const settled = await Promise.all(
        requests.map((request, number) => {
          const userId = isTheirs(request, number) ? request.userId : 'user-ben'
          return one.requests.settle(
            request.id,
            { ...approval(clock.now()), userId },
            { notifications: [messageOf(request)] },
          )
        }),
      )
      assert.deepEqual(settled, requests.map(isTheirs))
      const subjects = async () => (await allRows(one.database, 'notifications')).map(({ subject }) => subject).sort()
      const theirs = requests.filter(isTheirs).map(({ id }) => id)
      assert.deepEqual(await subjects(), theirs.sort())

      const twice = await Promise.all([...theirs, ...theirs].map((id) => one.requests.redeem(id, clock.now(), [])))
      assert.equal(twice.filter(Boolean).length, theirs.length)
      for (const id of theirs) assert.equal((await one.requests.find(id))!.status, 'redeemed')
    })

    test('of transitions in one batch one whose consequence fails fails alone', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const requests = Array.from({ length: 5 }, (_, number) => newRequest(clock.now(), { userId: `user-${number}` }))
      const message = newMessage(clock.now())
      const outcomes = await Promise.allSettled(
        // Two of these transitions add a row with the same key.
        requests.map((request, number) =>
          one.requests.accept(request, request.id, many, { notifications: [1, 3].includes(number) ? [message] : [] }),
        ),
      )
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
      )
      const found = await Promise.all(requests.map(({ id }) => one.requests.find(id)))
      assert.deepEqual(
        found.map((request) => request !== undefined),
        [true, true, true, false, true],
      )
    })

    test('only the hinted user can decide', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const request = newRequest(clock.now())
      await one.requests.accept(request, 'a', many)
      const before = await allRows(one.database, 'backchannel_auth_requests')
      assert.equal(await one.requests.settle(request.id, { ...approval(clock.now()), userId: 'user-ben' }), false)
      const answer = { userId: 'user-ben', outcome: 'approved', decidedBy: 'user' } as const
      assert.deepEqual(await one.decide({ ...answer, requestId: request.id }), { kind: 'unknown' })
      assert.deepEqual(await one.decide({ ...answer, requestId: 'no such request' }), { kind: 'unknown' })
      assert.deepEqual(await allRows(one.database, 'backchannel_auth_requests'), before)
      assert.deepEqual(await allRows(one.database, 'backchannel_auth_consent_history'), [])
    })

    test('at its deadline a request can only expire', async (t) => {
      const { clock, one } = await furnished(t, engine)
      for (const status of ['pending', 'approved'] as const) {
        const asked = newRequest(clock.now(), { deliveryMode: 'push' })
        await one.requests.accept(asked, asked.id, many)
        if (status === 'approved') await one.requests.settle(asked.id, approval(clock.now()))
        const request = (await one.requests.find(asked.id))!
        clock.advance(600_000 - 1)
        assert.equal(await one.requests.expire(request, 'too soon', clock.now()), false)
        assert.deepEqual(await one.requests.runOut(clock.now(), 10), [])
        clock.advance(1)

        const now = clock.now()
        assert.equal(await one.requests.settle(request.id, approval(now)), false)
        assert.equal(await one.requests.redeem(request.id, now, []), false)
        assert.equal((await one.requests.poll(request.id, 'till', now))!.request.status, status)
        assert.deepEqual(
          await one.decide({
            requestId: request.id,
            userId: 'user-ana',
            outcome: 'denied',
            decidedBy: 'application',
          }),
          { kind: 'expired' },
        )
        assert.deepEqual(
          (await one.requests.runOut(now, 10)).map(({ id }) => id),
          [request.id],
        )
        const outcomes = await Promise.all(Array.from({ length: 5 }, () => expire(request, one.needs)))
        assert.deepEqual(outcomes.filter(Boolean), [true])
        assert.deepEqual(await one.requests.runOut(now, 10), [])
        const kept = (await one.requests.find(request.id))!
        assert.deepEqual([kept.status, kept.settledAt, kept.callBackSealed], ['expired', now, undefined])
        assert.equal((await one.decisions.listForRequest(request.id)).length, 1)
      }
      const stored = await allRows(one.database, 'notifications')
      assert.equal(stored.length, 2, 'a push client is notified of both')
    })

    test('approved and denied requests do not expire', async (t) => {
      const { clock, one } = await furnished(t, engine)
      for (const outcome of ['denied', 'redeemed'] as const) {
        const request = newRequest(clock.now())
        await one.requests.accept(request, request.id, many)
        await one.requests.settle(request.id, {
          ...approval(clock.now()),
          outcome: outcome === 'denied' ? 'denied' : 'approved',
        })
        if (outcome === 'redeemed') assert.equal(await one.requests.redeem(request.id, clock.now(), []), true)
        assert.equal(await one.requests.redeem(request.id, clock.now(), []), false)
        clock.advance(700_000)
        for (const status of ['pending', 'approved'] as const) {
          assert.equal(await one.requests.expire({ id: request.id, status }, 'late', clock.now()), false)
        }
        assert.equal((await one.requests.find(request.id))!.status, outcome)
      }
    })

    test('the oldest deadline expires first', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const lives = [3000, 1000, 2000, 900_000]
      const requests = lives.map((life) => newRequest(clock.now(), { expiresAt: clock.now() + life }))
      for (const request of requests) await one.requests.accept(request, request.id, many)
      clock.advance(5000)
      const ids = (await one.requests.runOut(clock.now(), 2)).map(({ id }) => id)
      assert.deepEqual(ids, [requests[1]!.id, requests[2]!.id])
    })

    test('a statement that fails in a transition leaves everything as it was', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const request = newRequest(clock.now(), { deliveryMode: 'push' })
      await one.requests.accept(request, 'a', many)
      const facts = [broken]
      const notifications = [newMessage(clock.now())]
      const unharmed = async (move: () => Promise<unknown>) => {
        const tables = ['backchannel_auth_requests', 'notifications']
        const before = await Promise.all(tables.map((table) => allRows(one.database, table)))
        await assert.rejects(move())
        assert.deepEqual(await Promise.all(tables.map((table) => allRows(one.database, table))), before)
      }
      const now = clock.now()
      await unharmed(() => one.requests.settle(request.id, approval(now), { facts, notifications }))
      await one.requests.settle(request.id, approval(now))
      await unharmed(() => one.requests.redeem(request.id, now, facts))
      await unharmed(() =>
        one.requests.expire({ id: request.id, status: 'approved' }, 'clock', now + 600_000, { facts, notifications }),
      )
      assert.equal(await one.requests.redeem(request.id, now, []), true)
    })

    test('the callback stays with an approval until its push has been issued, and with no other request', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const keeps = async (deliveryMode: 'ping' | 'push', outcome: 'approved' | 'denied') => {
        const request = newRequest(clock.now(), { deliveryMode })
        await one.requests.accept(request, request.id, many)
        await one.requests.settle(request.id, { ...approval(clock.now()), outcome })
        return { id: request.id, sealed: (await one.requests.find(request.id))!.callBackSealed }
      }
      assert.equal((await keeps('ping', 'approved')).sealed, undefined)
      assert.equal((await keeps('ping', 'denied')).sealed, undefined)
      assert.equal((await keeps('push', 'denied')).sealed, undefined)
      const { id, sealed } = await keeps('push', 'approved')
      assert.ok(sealed)
      await one.requests.redeem(id, clock.now(), [])
      assert.equal((await one.requests.find(id))!.callBackSealed, undefined)
    })

    test('how the user was authenticated is stored with the decision', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const request = newRequest(clock.now())
      await one.requests.accept(request, 'a', many)
      const authentication = { acr: 'urn:strong', amr: ['face', 'pin'], authTime: 1_790_000_000 }
      await one.decide({
        requestId: request.id,
        userId: 'user-ana',
        outcome: 'denied',
        decidedBy: 'device_service',
        deviceClientId: 'phone-service',
        authentication,
        reported: false,
      })
      assert.deepEqual((await one.requests.find(request.id))!.authentication, authentication)
      const [decision] = await one.decisions.listForRequest(request.id)
      assert.deepEqual(
        { ...decision, id: '' },
        {
          id: '',
          requestId: request.id,
          outcome: 'denied',
          decidedBy: 'device_service',
          deviceClientId: 'phone-service',
          reported: false,
          decidedAt: clock.now(),
          ...authentication,
        },
      )
      const [row] = await allRows(one.database, 'backchannel_auth_consent_history')
      assert.deepEqual(
        [row!.client_id, row!.user_id, row!.scope, row!.binding_message],
        ['kiosk', 'user-ana', 'openid', 'Coffee 4.20'],
        'the history says what the user was shown',
      )
    })

    test('an approval that was not collected leaves two facts, in order', async (t) => {
      const { clock, one } = await furnished(t, engine)
      const request = newRequest(clock.now())
      await one.requests.accept(request, 'a', many)
      await one.decide({ requestId: request.id, userId: 'user-ana', outcome: 'approved', decidedBy: 'user' })
      clock.advance(600_000)
      await expire((await one.requests.find(request.id))!, one.needs)
      const history = await one.decisions.listForRequest(request.id)
      assert.deepEqual(
        history.map(({ outcome, decidedBy }) => [outcome, decidedBy]),
        [
          ['approved', 'user'],
          ['expired', 'clock'],
        ],
      )
    })

    test('each transition is announced, also to the other node; one that did not happen is not', async (t) => {
      const { clock, one, other } = await furnished(t, engine, { count: 2 })
      // SQLite serves one process, so the listener is in the process that announces.
      const heard: string[] = []
      const listener = engine.name === 'sqlite' ? one : other
      listener.database.listen('request', (key) => heard.push(key))
      const collected = newRequest(clock.now())
      const forgotten = newRequest(clock.now())
      for (const request of [collected, forgotten]) await one.requests.accept(request, request.id, many)
      await one.requests.settle(collected.id, approval(clock.now()))
      await one.requests.settle(collected.id, approval(clock.now()))
      await one.requests.redeem(collected.id, clock.now(), [])
      await one.requests.redeem(collected.id, clock.now(), [])
      clock.advance(600_000)
      await one.requests.expire(forgotten, 'clock', clock.now())
      await one.requests.expire(forgotten, 'clock', clock.now())
      await one.database.step({ sql: 'select 1 as one', values: [] }, { announce: [{ topic: 'request', key: 'end' }] })
      await until(() => heard.includes('end'))
      const accepted = [collected.id, forgotten.id]
      assert.deepEqual(heard, [...accepted, collected.id, collected.id, forgotten.id, 'end'])
    })
  })
}
