import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { createLog } from '../log.ts'
import { OAuthError } from '../oauth-error.ts'
import {
  answerOAuthError,
  type ErrorPages,
  edge,
  edgeOptions,
  onlyMethods,
  precomputedResponse,
  rawBody,
} from './answer.ts'
import { MAX_BODY_BYTES } from './request-body.ts'
import { Overloaded } from './unavailable.ts'

type Line = Record<string, unknown>

const pages: ErrorPages = {
  unavailable: () => ({ headers: { 'content-type': 'text/html' }, text: 'not now' }),
  notFound: () => ({ headers: { 'content-type': 'text/html' }, text: 'nothing here' }),
  failed: (_language, id) => ({ headers: { 'content-type': 'text/html' }, text: `failed ${id}` }),
}

function server(t: TestContext, addRoutes: (app: FastifyInstance) => void = () => {}) {
  const lines: Line[] = []
  const app = Fastify({ ...edgeOptions })
  edge(app, createLog('info', { write: (line: string) => void lines.push(JSON.parse(line)) }), pages)
  addRoutes(app)
  t.after(() => app.close())
  return { app, lines, answered: () => lines.filter((line) => line.msg === 'answered') }
}

const throwing = (error: unknown) => (app: FastifyInstance) => {
  app.get('/', () => {
    throw error
  })
}

test('an OAuthError becomes its status, JSON and headers', async (t) => {
  const refusal = new OAuthError('invalid_client', 'unknown client', {
    detail: 'no row',
    headers: { 'WWW-Authenticate': 'Basic', 'Cache-Control': 'public' },
    members: { interval: 5 },
  })
  const { app, lines } = server(t, throwing(refusal))
  const answer = await app.inject('/')
  assert.equal(answer.statusCode, 401)
  assert.deepEqual(answer.json(), { error: 'invalid_client', error_description: 'unknown client', interval: 5 })
  assert.match(String(answer.headers['content-type']), /^application\/json(; charset=utf-8)?$/)
  assert.equal(answer.headers['cache-control'], 'no-store')
  assert.equal(answer.headers.pragma, 'no-cache')
  assert.equal(answer.headers['www-authenticate'], 'Basic')
  assert.equal(answer.headers['x-content-type-options'], 'nosniff')
  assert.equal(answer.headers['referrer-policy'], 'no-referrer')
  assert.equal(lines[0]?.detail, 'no row')
  assert.equal(lines[0]?.code, 'invalid_client')
})

test('an OAuthError can be answered without being thrown', async (t) => {
  const { app } = server(t, (app) => {
    app.get('/', (_request, reply) => answerOAuthError(reply, new OAuthError('slow_down', 'later')))
  })
  const answer = await app.inject('/')
  assert.deepEqual([answer.statusCode, answer.json().error], [400, 'slow_down'])
})

test('a precomputed response equals that of the error, with headers, and writes no log line', async (t) => {
  const refusal = new OAuthError('slow_down', 'later')
  const { app, answered } = server(t, (app) => {
    const answer = precomputedResponse(refusal)
    app.get('/usual', async (_request, reply) => answer(reply, { 'DPoP-Nonce': 'n' }))
    app.get('/thrown', async (_request, reply) => {
      reply.header('DPoP-Nonce', 'n')
      throw refusal
    })
  })
  const [usual, thrown] = [await app.inject('/usual'), await app.inject('/thrown')]
  assert.equal(usual.headers['dpop-nonce'], 'n')
  assert.deepEqual({ ...usual.headers, date: '' }, { ...thrown.headers, date: '' })
  assert.deepEqual([usual.statusCode, usual.body], [thrown.statusCode, thrown.body])
  assert.deepEqual(
    answered().map(({ route }) => route),
    ['/thrown'],
  )
})

test('error_description keeps to the characters of RFC 6749', async (t) => {
  const { app } = server(t, throwing(new OAuthError('invalid_request', 'a "b" \\ é 😀\r\nc\td\u0000')))
  assert.equal((await app.inject('/')).json().error_description, 'a ?b? ? ? ?  c d?')
})

test('an unexpected error reveals nothing but where to look', async (t) => {
  const { app, lines } = server(t, throwing(new Error('secret inside')))
  const answer = await app.inject('/')
  assert.equal(answer.statusCode, 500)
  assert.equal(answer.json().error, 'server_error')
  assert.ok(!answer.body.includes('secret'))
  const line = lines.find((line) => line.level === 50)
  assert.ok(answer.json().error_description.includes(line?.call))
})

test('an unavailable dependency is a 503, whatever error it caused', async (t) => {
  const gone = Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
  for (const error of [gone, new Error('the sign-in failed', { cause: gone }), new Overloaded()]) {
    const { app } = server(t, throwing(error))
    const answer = await app.inject('/')
    assert.deepEqual([answer.statusCode, answer.headers['retry-after']], [503, '1'], error.message)
    assert.equal(answer.json().error, 'temporarily_unavailable')
    assert.equal(answer.headers['cache-control'], 'no-store')
  }
  const { app } = server(t, throwing(Object.assign(new Error('duplicate'), { code: '23505' })))
  assert.equal((await app.inject('/')).statusCode, 500)
})

test('while a dependency is away, only the first call writes an error line, with the cause', async (t) => {
  const gone = Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
  const { app, lines } = server(t, throwing(gone))
  for (let call = 0; call < 5; call += 1) assert.equal((await app.inject('/')).statusCode, 503)
  const errors = lines.filter(({ level }) => level === 50)
  assert.deepEqual(
    errors.map(({ event, cause, error }) => [event, cause, error]),
    [['calls.unavailable', 'ECONNREFUSED: away', undefined]],
  )
})

test('bodies of any type arrive raw', async (t) => {
  const { app } = server(t, (app) => {
    app.post('/', (request, reply) => reply.send(rawBody(request).toString('hex')))
  })
  for (const type of ['application/json', 'application/x-www-form-urlencoded', 'text/plain', 'x/y', undefined]) {
    const headers = type === undefined ? {} : { 'content-type': type }
    const answer = await app.inject({ method: 'POST', url: '/', headers, payload: Buffer.of(0xff, 0x00) })
    assert.equal(answer.body, 'ff00', type)
  }
  assert.equal((await app.inject({ method: 'POST', url: '/' })).body, '')
})

test('a body may be as large as allowed, and no larger', async (t) => {
  const { app } = server(t, (app) => {
    app.post('/', (request, reply) => reply.send(String(rawBody(request).length)))
  })
  const post = (length: number) => app.inject({ method: 'POST', url: '/', payload: Buffer.alloc(length) })
  assert.equal((await post(MAX_BODY_BYTES)).body, String(MAX_BODY_BYTES))
  const answer = await post(MAX_BODY_BYTES + 1)
  assert.deepEqual([answer.statusCode, answer.json().error], [413, 'invalid_request'])
})

test('what Fastify rejects is an invalid_request that repeats nothing', async (t) => {
  const { app } = server(t, (app) => {
    app.post('/', (_request, reply) => reply.send('ok'))
    app.get('/by/:id', (_request, reply) => reply.send('ok'))
  })
  const answers = await Promise.all([
    app.inject({ method: 'POST', url: '/', headers: { 'content-type': 'echo' }, payload: 'x' }),
    app.inject({ method: 'POST', url: '/', headers: { 'content-length': '5' }, payload: 'x' }),
    app.inject('/by/echo%zz'),
    app.inject(`/by/${'echo'.repeat(100)}`),
  ])
  for (const answer of answers) {
    assert.deepEqual([answer.statusCode, answer.json().error], [400, 'invalid_request'])
    assert.ok(!answer.body.includes('echo'))
    assert.equal(answer.headers['x-content-type-options'], 'nosniff')
  }
})

test('an unknown address is a 404 that repeats nothing', async (t) => {
  const { app } = server(t)
  const plain = await app.inject('/nowhere?q=1')
  assert.deepEqual([plain.statusCode, plain.json().error], [404, 'not_found'])
  assert.ok(!plain.body.includes('nowhere'))
  const page = await app.inject({ url: '/nowhere', headers: { accept: 'text/html,*/*' } })
  assert.deepEqual([page.statusCode, page.headers['content-type'], page.body], [404, 'text/html', 'nothing here'])
})

test('a browser gets a page if the address is malformed or takes no GET, and if the server fails', async (t) => {
  const { app, lines } = server(t, (app) => {
    onlyMethods(app, '/token', ['POST'])
    app.post('/token', (_request, reply) => reply.send('ok'))
    app.get('/broken', () => {
      throw new Error('a secret')
    })
  })
  const accept = 'text/html,application/xhtml+xml,*/*;q=0.8'
  const get = (url: string) => app.inject({ url, headers: { accept } })
  const malformedAddress = await get('/%zz')
  assert.deepEqual([malformedAddress.statusCode, malformedAddress.body], [400, 'nothing here'])
  const endpoint = await get('/token')
  assert.deepEqual([endpoint.statusCode, endpoint.body, endpoint.headers.allow], [405, 'nothing here', 'POST'])
  const failed = await get('/broken')
  const { call } = lines.find(({ msg }) => msg === 'a request failed')!
  assert.deepEqual([failed.statusCode, failed.body], [500, `failed ${call}`])
  const put = await app.inject({ method: 'PUT', url: '/token', headers: { accept } })
  assert.deepEqual([put.statusCode, put.json().error], [405, 'invalid_request'], 'no browser opens a page with PUT')
})

test('a known address refuses other methods and lists the allowed ones', async (t) => {
  const { app } = server(t, (app) => {
    onlyMethods(app, '/token', ['POST'])
    app.post('/token', (_request, reply) => reply.send('ok'))
    app.get('/page', (_request, reply) => reply.send('ok'))
    onlyMethods(app, '/page', ['GET'])
  })
  for (const method of ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const) {
    const answer = await app.inject({ method, url: '/token' })
    assert.deepEqual([answer.statusCode, answer.headers.allow, answer.json().error], [405, 'POST', 'invalid_request'])
  }
  assert.equal((await app.inject({ method: 'HEAD', url: '/token' })).statusCode, 405)
  assert.equal((await app.inject({ method: 'POST', url: '/token' })).body, 'ok')
  assert.equal((await app.inject({ method: 'HEAD', url: '/page' })).statusCode, 200)
  assert.equal((await app.inject({ method: 'POST', url: '/page' })).headers.allow, 'GET, HEAD')
})

test('every request writes one log line, with the pattern of its route', async (t) => {
  const { app, lines, answered } = server(t, (app) => {
    app.get('/by/:id', (_request, reply) => reply.send('ok'))
  })
  await app.inject('/by/hidden?auth_req_id=hidden')
  await app.inject('/hidden')
  assert.deepEqual(
    answered().map(({ method, route, status }) => [method, route, status]),
    [
      ['GET', '/by/:id', 200],
      ['GET', 'none', 404],
    ],
  )
  for (const line of answered()) {
    assert.equal(typeof line.milliseconds, 'number')
    assert.equal(typeof line.call, 'string')
  }
  assert.ok(!JSON.stringify(lines).includes('hidden'))
})

test('an incomplete body does no harm', async (t) => {
  const seen = Promise.withResolvers<void>()
  const { app, lines } = server(t, (app) => {
    app.addHook('onRequest', async () => seen.resolve())
    app.post('/', (_request, reply) => reply.send('ok'))
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc')
  await seen.promise
  socket.destroy()
  await once(socket, 'close')
  assert.equal((await app.inject({ method: 'POST', url: '/' })).body, 'ok')
  assert.ok(lines.every((line) => line.level !== 50))
})

test('a response during shutdown does not keep the connection open', async (t) => {
  const [seen, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const { app } = server(t, (app) => {
    app.addHook('preClose', async () => goOn.resolve())
    app.get('/', async () => {
      seen.resolve()
      await goOn.promise
      return 'ok'
    })
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const answer = fetch(url)
  await seen.promise
  const closed = app.close()
  assert.equal((await answer).headers.get('connection'), 'close')
  await closed
})

for (const [what, code] of [
  ['a NUL', '22021'],
  ['a text in another encoding', '22P05'],
  ['a text that is no number', '22P02'],
  ['a number out of range', '22003'],
  ['a text that is too long for an index', '54000'],
] as const) {
  test(`${what} that only the database refuses (${code}) is a 400, and the log says that a check is missing`, async (t) => {
    const { app, lines } = server(t, throwing(Object.assign(new Error('refused by the database'), { code })))
    const answer = await app.inject('/')
    assert.deepEqual([answer.statusCode, answer.json().error], [400, 'invalid_request'])
    assert.doesNotMatch(answer.body, /database/)
    assert.deepEqual(
      lines.filter(({ level }) => level === 50).map(({ msg }) => msg),
      ['a value from outside reached the database unchecked'],
    )
  })
}
