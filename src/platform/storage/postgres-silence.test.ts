import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate as turnOfLoop } from 'node:timers/promises'
import { type Client, DatabaseError } from 'pg'
import { createStageClock } from '../../../test/support/clock.ts'
import { until } from '../../../test/support/until.ts'
import { createLog } from '../log.ts'
import { createSilenceWatch } from './postgres-silence.ts'

const nobodyAtWork = async () => []
const refusal = new DatabaseError('sorry, too many clients already', 40, 'error')

describe('a connection on which an answer is late', () => {
  test('is reset if Postgres is not at work on it, and the other connections are suspect', async (t) => {
    const { watch, clock, open } = scene(t)
    const [silent, other] = [await open(), await open()]
    watch.asked(silent.client)
    clock.advance(4_999)
    await watch.endSilent(nobodyAtWork)
    assert.deepEqual([silent.near.destroyed, watch.isSuspect(other.client)], [false, false])
    clock.advance(1)
    await watch.endSilent(nobodyAtWork)
    assert.deepEqual([silent.near.destroyed, other.near.destroyed], [true, false])
    await silent.reset
    assert.ok(watch.isSuspect(other.client))
    assert.equal(watch.isSuspect((await open()).client), false, 'a new connection can be used')
  })

  test('stays open if Postgres is at work on it, or if its answer came in the meantime', async (t) => {
    const { watch, clock, open } = scene(t)
    const [working, answered] = [await open('working'), await open('answered')]
    for (const { client } of [working, answered]) watch.asked(client)
    clock.advance(5_000)
    await watch.endSilent(async (sessions) => {
      assert.deepEqual(sessions, ['working', 'answered'])
      answered.client.emit('drain')
      return ['working']
    })
    assert.deepEqual([working.near.destroyed, answered.near.destroyed], [false, false])
  })

  test('stays open as long as a part of the answer arrives every five seconds', async (t) => {
    const { watch, clock, open } = scene(t)
    const slow = await open()
    watch.asked(slow.client)
    for (let second = 0; second < 20; second += 4) {
      const before = slow.near.bytesRead
      slow.far.write('a part')
      await until(() => slow.near.bytesRead > before)
      clock.advance(4_000)
      await watch.endSilent(nobodyAtWork)
      assert.equal(slow.near.destroyed, false)
    }
    clock.advance(5_000)
    await watch.endSilent(nobodyAtWork)
    assert.equal(slow.near.destroyed, true)
  })

  test('stays open for thirty seconds if Postgres refuses to say what it is at work on', async (t) => {
    const { watch, clock, open } = scene(t)
    const late = await open()
    watch.asked(late.client)
    clock.advance(29_999)
    await watch.endSilent(() => Promise.reject(refusal))
    assert.deepEqual([late.near.destroyed, watch.isSuspect(late.client)], [false, false])
    await assert.rejects(
      watch.endSilent(() => Promise.reject(new Error('Query read timeout'))),
      /read timeout/,
    )
    assert.equal(late.near.destroyed, false)
    clock.advance(1)
    await watch.endSilent(() => Promise.reject(refusal))
    assert.equal(late.near.destroyed, true)
  })

  test('is ended after five seconds if Postgres cannot be reached, after thirty if it refuses new connections', async (t) => {
    const { watch, clock, open } = scene(t)
    const [first, second] = [await open(), await open()]
    watch.asked(first.client)
    watch.tried(new Error('connect ECONNREFUSED'))
    watch.tried(refusal)
    clock.advance(20_000)
    watch.tried(new Error('no host', { cause: refusal }))
    await turnOfLoop()
    assert.equal(first.near.destroyed, false)
    watch.tried(new Error('connect ECONNREFUSED'))
    await turnOfLoop()
    assert.equal(first.near.destroyed, true)
    watch.asked(second.client)
    watch.tried(refusal)
    clock.advance(29_999)
    watch.tried(refusal)
    await turnOfLoop()
    assert.equal(second.near.destroyed, false)
    clock.advance(1)
    watch.tried(refusal)
    await turnOfLoop()
    assert.equal(second.near.destroyed, true)
    watch.tried()
  })

  test('is ended within a second after it is late, as long as another connection is silent', async (t) => {
    const { watch, clock, open } = scene(t)
    const [first, second] = [await open(), await open()]
    watch.lost(refusal)
    assert.equal(watch.isSuspect(first.client), false, 'Postgres has answered')
    watch.lost(new Error('Query read timeout'))
    assert.ok(watch.isSuspect(first.client))
    watch.asked(first.client)
    clock.advance(3_000)
    watch.asked(second.client)
    clock.advance(2_000)
    await turnOfLoop()
    assert.deepEqual([first.near.destroyed, second.near.destroyed], [true, false])
    watch.tried()
    clock.advance(60_000)
    await turnOfLoop()
    assert.equal(second.near.destroyed, false, 'Postgres can be asked again')
  })
})

/** Connections of which only the socket is real: `pg` uses an event emitter. */
function scene(t: TestContext) {
  const clock = createStageClock()
  const watch = createSilenceWatch({ log: createLog('silent'), clock })
  async function open(session = 'any') {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const near = connect((server.address() as AddressInfo).port, '127.0.0.1').resume()
    const [far] = (await once(server, 'connection')) as [Socket]
    const reset = Promise.withResolvers<void>()
    far.on('error', ({ code }: NodeJS.ErrnoException) => code === 'ECONNRESET' && reset.resolve())
    near.on('error', () => {})
    t.after(() => {
      near.destroy()
      far.destroy()
      server.close()
    })
    const client = Object.assign(new EventEmitter(), { connection: { stream: near } }) as unknown as Client
    watch.add(client)
    watch.identify(client, session)
    return { client, near, far, reset: reset.promise }
  }
  return { watch, clock, open }
}
