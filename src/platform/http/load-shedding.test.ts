import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { type FastifyInstance, fastify } from 'fastify'
import { until } from '../../../test/support/until.ts'
import { createLog } from '../log.ts'
import { OAuthError } from '../oauth-error.ts'
import { edge, edgeOptions } from './answer.ts'
import { createLoadShedding, type Slot, slotOf } from './load-shedding.ts'

test('a waiting call is not in work: its slot and its share are free meanwhile', async (t) => {
  const user = Promise.withResolvers<void>()
  const { call, app, inWork } = await scene(t, 2)
  app.get('/poll', ({ raw }) =>
    inWork.withFairShare('kiosk', slotOf(raw), () => inWork.releaseSlotWhile(slotOf(raw), user.promise)),
  )
  app.get('/quick', ({ raw }) => inWork.withFairShare('kiosk', slotOf(raw), async () => 'done'))
  await app.listen()
  const polls = Array.from({ length: 20 }, () => call('/poll'))
  // Each call uses its own connection, so the polls do not block these calls. All twenty polls still wait when the last
  // of these calls is answered.
  for (let number = 0; number < 20; number++) assert.equal(await call('/quick'), 200)
  user.resolve()
  assert.deepEqual(new Set(await Promise.all(polls)), new Set([200]))
  assert.equal(await call('/quick'), 200)
})

test('failed work gives its slot and its share back', async (t) => {
  const { call, app, inWork } = await scene(t, 2)
  app.get('/poll', ({ raw }) =>
    inWork.withFairShare('kiosk', slotOf(raw), () => Promise.reject(new OAuthError('invalid_request', 'no'))),
  )
  await app.listen()
  for (let number = 0; number < 5; number++) assert.equal(await call('/poll'), 400)
})

describe('before a caller has authenticated', () => {
  /**
   * The authentication of a stranger lasts until the test ends it. The authentication of the real client takes no time.
   */
  async function proving(t: TestContext, most: number) {
    const { app, inWork, call } = await scene(t, most)
    const proof = Promise.withResolvers<void>()
    let pending = 0
    app.get('/poll', ({ raw, query }) => {
      const { client, knows } = query as { client: string; knows?: string }
      return inWork.whileProving(client, slotOf(raw), async () => {
        if (knows !== undefined) return 'believed'
        pending += 1
        await proof.promise
        throw new OAuthError('invalid_client', 'no')
      })
    })
    await app.listen()
    return {
      stranger: (client: string, address: string) => call(`/poll?client=${client}`, address),
      client: (client: string, address: string) => call(`/poll?client=${client}&knows=1`, address),
      /** Resolves when all but `count` calls have been refused. */
      async allBut(count: number, calls: Promise<number>[]) {
        let answered = 0
        for (const each of calls) each.then(() => (answered += 1))
        await until(() => answered === calls.length - count, 60_000)
        assert.equal(pending, count)
      },
      end: proof.resolve,
    }
  }

  test('strangers take no more than their share, and the client they claim to be is served', async (t) => {
    const { stranger, client, allBut, end } = await proving(t, 24)
    assert.equal(await client('victim', '203.0.113.1'), 200)
    const calls = Array.from({ length: 100 }, (_, n) => stranger('victim', `198.51.100.${n}`))
    // The strangers get a third of the slots, which is two thirds of half of the slots.
    await allBut(8, calls)
    assert.equal(await client('victim', '203.0.113.1'), 200, 'from where it is known')
    assert.equal(await client('victim', '192.0.2.1'), 200, 'from where it is not known')
    assert.equal(await client('kiosk', '198.51.100.1'), 200, 'another client in the network of the strangers')
    end()
    assert.deepEqual(count(await Promise.all(calls)), { 401: 8, 503: 92 })
  })

  test('strangers of a hundred networks leave a quarter to clients that have authenticated before', async (t) => {
    const { stranger, client, allBut, end } = await proving(t, 24)
    assert.equal(await client('victim', '203.0.113.1'), 200)
    const calls = Array.from({ length: 1000 }, (_, n) => stranger('victim', `10.0.${n % 100}.1`))
    await allBut(18, calls)
    assert.equal(await client('victim', '192.0.2.1'), 503, 'no other caller has capacity')
    assert.equal(await client('victim', '203.0.113.1'), 200)
    end()
    assert.deepEqual(count(await Promise.all(calls)), { 401: 18, 503: 982 })
  })
})

test('a call that waits for a fetch has neither a slot nor a share, authenticated or not', async (t) => {
  const { app, inWork, call } = await scene(t, 2)
  const fetched = Promise.withResolvers<void>()
  let waiting = 0
  const wait = async (slot: Slot | undefined) => {
    waiting += 1
    await inWork.releaseSlotWhile(slot, fetched.promise)
    return 'done'
  }
  app.get('/poll', ({ raw }) => inWork.whileProving('kiosk', slotOf(raw), () => wait(slotOf(raw))))
  app.get('/quick', ({ raw, query }) =>
    inWork.withFairShare('till', slotOf(raw), async () => ('wait' in (query as object) ? wait(slotOf(raw)) : 'done')),
  )
  await app.listen()
  const calls: Promise<number>[] = []
  for (let number = 1; number <= 20; number++) {
    calls.push(call(number % 2 ? '/poll' : '/quick?wait=1'))
    await until(() => waiting === number)
  }
  for (let number = 0; number < 20; number++) assert.equal(await call('/quick'), 200)
  fetched.resolve()
  assert.deepEqual(new Set(await Promise.all(calls)), new Set([200]))
  assert.equal(await call('/quick'), 200)
})

test('a caller that disconnects while waiting gives nothing back a second time', async (t) => {
  const { app, inWork, call } = await scene(t, 2)
  const [fetched, work] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  let [waiting, left, working] = [0, 0, 0]
  app.get('/poll', ({ raw }, reply) => {
    waiting += 1
    reply.raw.once('close', () => (left += 1))
    return inWork.withFairShare('kiosk', slotOf(raw), () => inWork.releaseSlotWhile(slotOf(raw), fetched.promise))
  })
  app.get('/quick', ({ raw, query }) => {
    working += 1
    return inWork.withFairShare((query as { client: string }).client, slotOf(raw), () => work.promise)
  })
  await app.listen()
  const { port } = app.server.address() as { port: number }
  for (let number = 1; number <= 5; number++) {
    const socket = connect(port, 'localhost', () => socket.write('GET /poll HTTP/1.1\r\nhost: x\r\n\r\n'))
    await until(() => waiting === number)
    socket.destroy()
    await until(() => left === number)
  }
  fetched.resolve()
  assert.equal(await call('/poll'), 200)
  const calls = [call('/quick?client=kiosk'), call('/quick?client=till')]
  await until(() => working === 2)
  assert.equal(await call('/quick?client=northbank'), 503, 'two places are two')
  work.resolve()
  assert.deepEqual(await Promise.all(calls), [200, 200])
})

test('an internal call is never refused and takes no slot', async (t) => {
  const work = Promise.withResolvers<void>()
  const { call, app } = await scene(t, 1)
  let begun = 0
  const third = Promise.withResolvers<void>()
  app.get('/poll', () => {
    if (++begun === 3) third.resolve()
    return work.promise
  })
  app.get('/events', async () => 'stays open')
  await app.listen()
  const inside = Promise.all([app.inject('/poll'), app.inject('/poll')])
  const first = call('/poll')
  await third.promise
  assert.equal(await call('/poll'), 503)
  assert.equal(await call('/events'), 200)
  work.resolve()
  for (const { statusCode } of await inside) assert.equal(statusCode, 200)
  assert.equal(await first, 200)
})

async function scene(t: { after(done: () => unknown): void }, most: number) {
  const app: FastifyInstance = fastify({ ...edgeOptions, forceCloseConnections: true, trustProxy: true })
  t.after(() => app.close())
  edge(app, createLog('silent'))
  const inWork = createLoadShedding({ most, clients: ['/poll', '/quick'], exempt: ['/events'] })
  inWork.guard(app)
  return { app, inWork, call: (path: string, address?: string) => statusOf(app, path, address) }
}

/** Calls a path on a connection of its own, and resolves to the status. */
function statusOf(app: FastifyInstance, path: string, address = '192.0.2.1'): Promise<number> {
  const { port } = app.server.address() as { port: number }
  return new Promise((resolve, reject) => {
    const socket = connect(port, 'localhost', () =>
      socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: ${address}\r\nconnection: close\r\n\r\n`),
    )
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk
    })
    socket.once('error', reject)
    socket.once('close', () => resolve(Number(text.slice(9, 12))))
  })
}

function count(statuses: number[]): Record<number, number> {
  return Object.fromEntries([...new Set(statuses)].map((each) => [each, statuses.filter((one) => one === each).length]))
}
