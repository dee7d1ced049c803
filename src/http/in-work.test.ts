import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { type FastifyInstance, fastify } from 'fastify'
import { createLog } from '../log.ts'
import { edge, edgeOptions } from './answer.ts'
import { createInWork } from './in-work.ts'

test('what waits for somebody is not in work: neither its place nor its share is taken meanwhile', async (t) => {
  const user = Promise.withResolvers<void>()
  const { call, app, inWork } = await scene(t, 2)
  app.get('/poll', () => inWork.fairly('kiosk', () => inWork.whileWaiting('kiosk', () => user.promise)))
  app.get('/quick', () => inWork.fairly('kiosk', async () => 'done'))
  await app.listen()
  const polls = Array.from({ length: 20 }, () => call('/poll'))
  // On connections of their own: all twenty are waiting when the last of these is answered.
  for (let number = 0; number < 20; number++) assert.equal(await call('/quick'), 200)
  user.resolve()
  assert.deepEqual(new Set(await Promise.all(polls)), new Set([200]))
  assert.equal(await call('/quick'), 200)
})

test('a piece of work that fails gives its share back', async (t) => {
  const { inWork } = await scene(t, 2)
  for (let number = 0; number < 5; number++) {
    await assert.rejects(
      inWork.fairly('kiosk', () => Promise.reject(new Error('no'))),
      /no/,
    )
  }
})

test('a call from inside is never refused, and takes nobody’s place', async (t) => {
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
  const app: FastifyInstance = fastify({ ...edgeOptions, forceCloseConnections: true })
  t.after(() => app.close())
  edge(app, createLog('silent'))
  const inWork = createInWork({ most, clients: ['/poll', '/quick'], free: ['/events'] })
  inWork.guard(app)
  return { app, inWork, call: (path: string) => statusOf(app, path) }
}

/** On a connection of its own. */
function statusOf(app: FastifyInstance, path: string): Promise<number> {
  const { port } = app.server.address() as { port: number }
  return new Promise((resolve, reject) => {
    const socket = connect(port, 'localhost', () =>
      socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`),
    )
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk
    })
    socket.once('error', reject)
    socket.once('close', () => resolve(Number(text.slice(9, 12))))
  })
}
