/**
 * Load shedding: an overloaded server refuses calls early, answers the calls that it accepted, and serves decisions.
 */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { serverTimeouts } from '../../src/platform/http/answer.ts'
import { mostUnfinished } from '../../src/platform/http/life.ts'
import { mostPieces } from '../../src/platform/http/request-body.ts'
import type { UserHooks } from '../../src/user/user.ts'
import { createGate } from '../support/gate.ts'
import {
  type Answer,
  ana,
  ben,
  CIBA,
  credentials,
  openStage,
  type RingingClient,
  type Stage,
} from '../support/stage.ts'
import { openTlsStage } from '../support/tls-stage.ts'
import { until } from '../support/until.ts'

const people = [ana, ben]

/**
 * Opens a server. The look-up of the user of a new request waits at the gate, so the call stays in progress as long as
 * the test wants.
 */
async function busy(t: TestContext, inFlight: number) {
  const gate = createGate()
  const users: UserHooks = {
    find: async (id) => people.find((one) => one.id === id) ?? null,
    async findByHint({ value }, { backchannel_token_delivery_mode: rings }) {
      if (rings !== undefined) await gate.pass()
      return people.find(({ username }) => username === value.split('@')[0]) ?? null
    },
  }
  const held: Promise<Answer>[] = []
  t.after(() => {
    gate.release()
    return Promise.allSettled(held)
  })
  const stage = await openStage(t, { config: { limits: { inFlight }, users } })
  await stage.ring('kiosk')
  const waiting = await stage.newestRequest()
  gate.hold()
  return {
    gate,
    stage,
    /** The id of a request that was sent before. */
    waiting,
    held,
    async fill(as: RingingClient, count: number) {
      for (let number = 0; number < count; number++) held.push(stage.ring(as))
      await gate.waiting(held.length)
    },
  }
}

function assertShed({ status, headers, body, text }: Answer): void {
  assert.equal(status, 503, text)
  assert.equal(headers.get('retry-after'), '1')
  assert.equal(headers.get('cache-control'), 'no-store')
  assert.equal(body.error, 'temporarily_unavailable')
}

describe('when the maximum of calls is in work', () => {
  test('further calls of clients are refused with 503 and Retry-After, and those under way are answered', async (t) => {
    const { stage, gate, fill, held } = await busy(t, 3)
    await fill('kiosk', 2)
    await fill('till', 1)
    assertShed(await stage.ring('northbank'))
    assertShed(await stage.poll('northbank', 'unknown'))
    assertShed(await stage.post('/oauth/introspect', { token: 'x' }, credentials.kiosk))
    assertShed(await stage.post('/backchannel/clientconfig', {}, credentials.kiosk))
    assertShed(await stage.get('/.well-known/openid-configuration'))
    gate.release()
    for (const answer of await Promise.all(held)) assert.equal(answer.status, 200, answer.text)
    assert.equal((await stage.poll('northbank', 'unknown')).body.error, 'invalid_grant', 'there is room again')
    assert.equal((await stage.ring('northbank')).status, 200)
  })

  test('the refusal comes before the body is read, and a connection with an endless body is closed', async (t) => {
    const { stage, fill } = await busy(t, 1)
    await fill('kiosk', 1)
    const small = open(t, stage, head('/oauth/token', 'content-length: 1000'))
    assert.match(await small.heard(/\r\n\r\n\{.*\}/s), /^HTTP\/1\.1 503 [\s\S]*retry-after: 1/i)
    small.socket.destroy()
    const endless = open(t, stage, head('/oauth/token', 'transfer-encoding: chunked'))
    assert.match(await endless.closed(), /^HTTP\/1\.1 503 [\s\S]*connection: close/i)
    const huge = open(t, stage, head('/oauth/token', 'content-length: 99999999999'))
    assert.match(await huge.closed(), /^HTTP\/1\.1 503 [\s\S]*connection: close/i)
  })

  test('decisions are served in every way, and so are health and metrics', async (t) => {
    const { stage, fill, waiting, held } = await busy(t, 2)
    await fill('kiosk', 1)
    await fill('northbank', 1)
    for (const path of ['/health/live', '/health/ready', '/metrics']) {
      assert.equal((await stage.get(path)).status, 200, path)
    }
    assert.equal((await stage.get('/', { accept: 'text/html' })).status, 303, 'the page of a user')
    assert.equal((await stage.get('/oauth/authorize')).status, 400, 'the way to sign in')
    assert.ok((await stage.waiting()).some(({ request_id }) => request_id === waiting))
    assert.equal((await stage.decide(waiting, 'approved')).body.status, 'approved')
    assert.equal(held.length, 2, 'all this while')
    assertShed(await stage.poll('kiosk', 'unknown'))
  })

  test('a caller that hangs up frees its place, and so does a call that is refused or fails', async (t) => {
    const { stage, gate } = await busy(t, 1)
    const body = 'scope=openid&login_hint=ana'
    const authorization = `authorization: ${credentials.kiosk}`
    const leaving = open(
      t,
      stage,
      head('/backchannel/authorize', authorization, `content-length: ${body.length}`) + body,
    )
    await gate.waiting(1)
    assertShed(await stage.poll('northbank', 'unknown'))
    leaving.socket.destroy()
    await until(async () => (await stage.poll('northbank', 'unknown')).status === 400)
    for (let number = 0; number < 5; number++) {
      assert.equal((await stage.poll('northbank', 'unknown')).body.error, 'invalid_grant')
      assert.equal((await stage.post('/oauth/token', { foo: 'a' })).status, 401)
      assert.equal((await stage.post('/backchannel/authorize', {})).status, 401)
    }
    // Kiosk's abandoned call is still in progress, and counts towards Kiosk's limit.
    assertShed(await stage.poll('kiosk', 'unknown'))
    gate.release()
    await until(async () => (await stage.poll('kiosk', 'unknown')).status === 400)
  })
})

describe('one client sends as many calls as it can', () => {
  test('it gets half of the places, and other clients are served', async (t) => {
    const { stage, fill, gate, held } = await busy(t, 8)
    await fill('kiosk', 4)
    assertShed(await stage.ring('kiosk'))
    assertShed(await stage.poll('kiosk', 'unknown'))
    // Four slots are left. Northbank gets half of them.
    await fill('northbank', 2)
    assertShed(await stage.ring('northbank'))
    await fill('till', 1)
    gate.release()
    for (const answer of await Promise.all(held)) assert.equal(answer.status, 200, answer.text)
    const again = await Promise.all([stage.ring('kiosk'), stage.ring('kiosk'), stage.ring('northbank')])
    for (const answer of again) assert.equal(answer.status, 200, answer.text)
  })

  test('while no other client needs them, half of the places are its own', async (t) => {
    const { fill, held } = await busy(t, 8)
    await fill('kiosk', 4)
    assert.equal(held.length, 4)
  })

  test('0 means no limit', async (t) => {
    const { fill, gate, held } = await busy(t, 0)
    await fill('kiosk', 30)
    gate.release()
    for (const answer of await Promise.all(held)) assert.equal(answer.status, 200, answer.text)
  })
})

describe('slow or endless input costs nothing', () => {
  const impatient = { callerPatience: { headers: 200, request: 400, silence: 600 } }

  test('a connection without data, with half a head or half a body is closed, and takes no place', async (t) => {
    const stage = await openStage(t, { config: { limits: { inFlight: 1 } }, parts: impatient })
    const half = head('/oauth/token', 'content-length: 1000')
    const slow = [
      open(t, stage, ''),
      open(t, stage, half.slice(0, 30)),
      open(t, stage, `${half}grant_type=`),
      open(t, stage, `${head('/oauth/token', 'transfer-encoding: chunked')}5\r\ngra`),
    ]
    const answer = await stage.ring('kiosk')
    assert.equal(answer.status, 200, 'meanwhile others are served')
    for (const heard of await Promise.all(slow.map(({ closed }) => closed()))) {
      assert.match(heard, /^(HTTP\/1\.1 408 .*)?$/s)
    }
  })

  test('a connection that does not finish its TLS handshake is closed', async (t) => {
    const stage = await openTlsStage(t, { parts: impatient })
    const { port } = new URL(stage.url)
    // The first five bytes of a TLS record that is announced to have 512 bytes.
    for (const begin of ['', '\x16\x03\x01\x02\x00']) {
      const socket = connect(Number(port), 'localhost').on('error', () => {})
      t.after(() => socket.destroy())
      socket.write(begin)
      await once(socket, 'close')
    }
  })

  test('a body beyond 64 KiB is refused as soon as its size is known, and the connection is closed', async (t) => {
    const stage = await openStage(t)
    const announced = open(t, stage, head('/oauth/token', 'content-length: 99999999999'))
    assert.match(await announced.closed(), /^HTTP\/1\.1 413 /)
    const endless = open(t, stage, head('/oauth/token', 'transfer-encoding: chunked'))
    const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`
    endless.socket.on('drain', () => endless.socket.write(chunk))
    while (endless.socket.write(chunk));
    assert.match(await endless.closed(), /^HTTP\/1\.1 413 /)
  })

  test('a body in 1024 pieces is read, and the connection of one in more pieces is closed', async (t) => {
    const stage = await openStage(t)
    const chunked = head('/oauth/token', 'transfer-encoding: chunked')
    const inPieces = (count: number) => '1\r\na\r\n'.repeat(count)
    const read = open(t, stage, `${chunked}${inPieces(mostPieces)}0\r\n\r\n`)
    assert.match(await read.heard(/}$/), /^HTTP\/1\.1 401 .*"invalid_client"/s)
    for (const path of ['/oauth/token', '/%', '/nowhere', '/Health/Live']) {
      const refused = head(path, 'transfer-encoding: chunked') + inPieces(mostPieces + 1)
      const behindOthers = getting.repeat(12) + refused
      for (const call of [refused, refused.replace('POST', 'GET'), behindOthers, withoutHost(refused)]) {
        await open(t, stage, call).closed()
      }
    }
    const refused = await open(t, stage, chunked + inPieces(mostPieces + 1)).closed()
    assert.match(refused, /^HTTP\/1\.1 400 .*more than 1024 pieces/s)
  })

  test('a connection with too many calls whose responses are not read is closed, and no other', async (t) => {
    const stage = await openStage(t, { config: { requests: { longPoll: 20 } } })
    const { body } = await stage.ring('kiosk')
    const poll = pollOf(body.auth_req_id)
    const allowed = open(t, stage, poll + getting.repeat(mostUnfinished - 1))
    const others = [
      getting,
      getting.replace('/health/live', '/%'),
      getting.replace('\r\n', '\r\nexpect: anything\r\n'),
      withoutHost(getting),
    ]
    for (const other of others) {
      assert.equal(await open(t, stage, poll + other.repeat(mostUnfinished)).closed(), '', other)
    }
    await stage.decide(await stage.newestRequest(), 'denied')
    const heard = await allowed.heard(new RegExp(`(HTTP/1\\.1 200 .*){${mostUnfinished - 1}}`, 's'))
    assert.match(heard, /^HTTP\/1\.1 400 .*access_denied/s)
  })

  for (const [what, call] of [
    ['calls', () => getting],
    ['calls without Host', () => withoutHost(getting)],
    ['polls', () => pollOf('unknown')],
  ] as const) {
    test(`the end of a connection with 1500 ${what} captures no stack trace for each of them`, async (t) => {
      const stage = await openStage(t)
      const started: IncomingMessage[] = []
      const note = (message: unknown) => started.push((message as { request: IncomingMessage }).request)
      subscribe('http.server.request.start', note)
      t.after(() => unsubscribe('http.server.request.start', note))
      const { stackTraceLimit } = Error
      await open(t, stage, call().repeat(1500)).closed()
      await until(() => started.every(({ destroyed }) => destroyed))
      assert.ok(started.length > mostUnfinished, 'Node has begun more calls than are allowed')
      const traced = started.filter(({ errored }) => /\n +at /.test(errored?.stack ?? ''))
      assert.deepEqual([traced.length, Error.stackTraceLimit], [0, stackTraceLimit])
    })
  }

  test('a connection on which nothing moves is closed, as when the caller does not read', async (t) => {
    const stage = await openStage(t, { parts: impatient, config: { requests: { longPoll: 20 } } })
    const { body } = await stage.ring('kiosk')
    assert.equal(await open(t, stage, pollOf(body.auth_req_id)).closed(), '')
    assert.ok(serverTimeouts().connectionTimeout > 2 * 25_000, 'longer than a held poll and a pause of an event stream')
  })

  test('a call without Host is refused as RFC 9112 requires, in HTTP/1.1 only', async (t) => {
    const stage = await openStage(t)
    const refused = await open(t, stage, withoutHost(getting)).closed()
    assert.match(refused, /^HTTP\/1\.1 400 .*connection: close.*"error":"invalid_request"/is)
    const former = withoutHost(getting).replace('HTTP/1.1', 'HTTP/1.0')
    assert.match(await open(t, stage, former).closed(), /^HTTP\/1\.1 200 /)
  })

  test('headers beyond 16 KiB are refused', async (t) => {
    const stage = await openStage(t)
    const large = open(t, stage, head('/oauth/token', `x: ${'x'.repeat(20_000)}`))
    assert.match(await large.closed(), /^HTTP\/1\.1 431 /)
  })
})

const getting = 'GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n'

const withoutHost = (call: string) => call.replace('host: localhost\r\n', '')

function pollOf(authReqId: unknown): string {
  const form = String(new URLSearchParams({ grant_type: CIBA, auth_req_id: String(authReqId) }))
  return `${head('/oauth/token', `authorization: ${credentials.kiosk}`, `content-length: ${form.length}`)}${form}`
}

const head = (path: string, ...headers: string[]) =>
  `${[`POST ${path} HTTP/1.1`, 'host: localhost', 'content-type: application/x-www-form-urlencoded', ...headers].join('\r\n')}\r\n\r\n`

/** A raw connection, on which a test can send anything or nothing. */
function open(t: TestContext, stage: Stage, said: string) {
  const socket: Socket = connect(Number(new URL(stage.url).port), '127.0.0.1')
  t.after(() => socket.destroy())
  let text = ''
  const end = Promise.withResolvers<string>()
  socket.on('data', (chunk) => {
    text += chunk
  })
  // If a caller still writes after the server has closed the connection, the connection is reset.
  socket.on('error', () => {})
  socket.on('close', () => end.resolve(text))
  socket.write(said)
  return {
    socket,
    /** Resolves to all that was received when the connection has closed. */
    closed: () => end.promise,
    async heard(pattern: RegExp) {
      await until(() => pattern.test(text))
      return text
    },
  }
}
