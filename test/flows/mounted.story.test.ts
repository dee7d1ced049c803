/**
 * Doorbell is mounted in the server of an application: in Express, in Koa or in Fastify, before or after body parsers. The
 * application keeps its own routes.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { type ClientHttp2Session, connect } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import express from 'express'
// @ts-expect-error The types of Express 4 have the name of those of Express 5.
import express4 from 'express4'
import Fastify from 'fastify'
import Koa from 'koa'
import type { UserHooks } from '../../src/user/user.ts'
import { CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'

async function listen(t: TestContext, listener: RequestListener): Promise<string> {
  const server: Server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

interface Answered {
  status: number
  body: Record<string, unknown>
}

async function send(url: string, authorization: string, body: URLSearchParams | object): Promise<Answered> {
  const isForm = body instanceof URLSearchParams
  const headers = { authorization, ...(!isForm && { 'content-type': 'application/json' }) }
  const response = await fetch(url, { method: 'POST', headers, body: isForm ? body : JSON.stringify(body) })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

/** A request, a decision in JSON, and a poll that gets tokens. */
async function assertServes(host: string, stage: Stage): Promise<void> {
  const asked = { scope: 'openid', login_hint: 'ana', binding_message: 'Café & 4.20 + tip' }
  const rung = await send(`${host}/backchannel/authorize`, credentials.kiosk, new URLSearchParams(asked))
  assert.equal(rung.status, 200)
  const auth_req_id = String(rung.body.auth_req_id)
  const [shown] = await stage.waiting()
  assert.equal(shown!.binding_message, asked.binding_message)
  const decision = { login_hint: 'ana', auth_req_id, status: 'approved' }
  const decided = await send(`${host}/backchannel/complete`, credentials.phoneService, decision)
  assert.deepEqual([decided.status, decided.body.status], [200, 'approved'])
  const form = new URLSearchParams({ grant_type: CIBA, auth_req_id })
  assert.equal((await send(`${host}/oauth/token`, credentials.kiosk, form)).status, 200)
  const twice = new URLSearchParams([...Object.entries(asked), ['scope', 'openid email']])
  const refused = await send(`${host}/backchannel/authorize`, credentials.kiosk, twice)
  assert.deepEqual([refused.status, refused.body.error], [400, 'invalid_request'], 'a repeated parameter')
  assert.equal((await fetch(`${host}/.well-known/openid-configuration`)).status, 200)
  assert.equal((await fetch(`${host}/approve/no-such`, { redirect: 'manual' })).status, 303, 'a page')
}

const textOf = async (url: string) => {
  const response = await fetch(url)
  return `${response.status} ${await response.text()}`
}

for (const [version, make] of [
  ['Express 5', express],
  ['Express 4', express4 as typeof express],
] as const) {
  describe(version, () => {
    const parsers = {
      'no body parser': [],
      'parsers of forms and JSON': [make.urlencoded({ extended: false }), make.json()],
      'an extended parser of forms': [make.urlencoded({ extended: true }), make.json({ type: '*/*' })],
      'a parser of bytes': [make.raw({ type: '*/*' })],
      'a parser of text': [make.text({ type: '*/*' })],
    }
    for (const [what, before] of Object.entries(parsers)) {
      test(`after ${what}: Doorbell's routes work, and the others are the application's`, async (t) => {
        const stage = await openStage(t)
        const app = make()
        for (const parser of before) app.use(parser)
        app.use(stage.doorbell.handler)
        app.use(make.json())
        app.get('/shop', (_request, response) => void response.send('the shop'))
        app.post('/shop', (request, response) => void response.send(`sold ${request.body.item ?? request.body}`))
        app.use((_request, response) => void response.status(404).send('not in the shop'))
        const host = await listen(t, app)
        await assertServes(host, stage)
        assert.equal(await textOf(`${host}/shop?page=2`), '200 the shop')
        for (const path of ['/shop/nowhere', '/oauth', '/OAuth/token', '/approve', '/approve/a/b/c']) {
          assert.equal(await textOf(host + path), '404 not in the shop', path)
        }
        if (before.length === 0) {
          const headers = { 'content-type': 'application/json' }
          const sold = await fetch(`${host}/shop`, { method: 'POST', headers, body: '{"item":"tea"}' })
          assert.equal(await sold.text(), 'sold tea')
        }
      })
    }

    test('a body that was read and is nowhere is an error of the set-up, and the log says what to do', async (t) => {
      const stage = await openStage(t)
      const app = make()
      app.use((request, _response, next) => void request.resume().on('end', next))
      app.use(stage.doorbell.handler)
      const form = new URLSearchParams({ scope: 'openid', login_hint: 'ana' })
      const refused = await send(`${await listen(t, app)}/backchannel/authorize`, credentials.kiosk, form)
      assert.deepEqual([refused.status, refused.body.error], [500, 'server_error'])
      assert.match(stage.logLines.join(), /mount\.body_consumed.*mount Doorbell before the body parser/)
    })
  })
}

test('Koa: good answers are 200, although Koa begins with 404', async (t) => {
  const stage = await openStage(t)
  const app = new Koa()
  app.use((context, next) => {
    context.respond = false
    stage.doorbell.handler(context.req, context.res, () => {
      context.respond = true
      void next()
    })
  })
  app.use((context) => {
    context.body = 'the shop'
  })
  const host = await listen(t, app.callback())
  await assertServes(host, stage)
  assert.equal(await textOf(`${host}/shop`), '200 the shop')
})

test('Fastify: the routes that the application has itself are kept, also those that Doorbell has', async (t) => {
  const stage = await openStage(t)
  const app = Fastify()
  t.after(() => app.close())
  app.get('/', async () => 'the shop')
  app.post('/shop', async (request) => `sold ${(request.body as { item: string }).item}`)
  await app.register(stage.doorbell.fastify)
  const host = await app.listen({ port: 0, host: '127.0.0.1' })
  await assertServes(host, stage)
  assert.equal(await textOf(host), '200 the shop')
  const headers = { 'content-type': 'application/json' }
  const sold = await fetch(`${host}/shop`, { method: 'POST', headers, body: '{"item":"tea"}' })
  assert.equal(await sold.text(), 'sold tea')
})

describe('limits of calls in progress', () => {
  /** Doorbell with users of the application. `asked` are the hints of the calls that have reached the application. */
  async function withHook(t: TestContext, { holds = false, inFlight = 100 } = {}) {
    const asked: string[] = []
    const gate = Promise.withResolvers<void>()
    const users: UserHooks = {
      find: async () => null,
      async findByHint({ value }) {
        asked.push(value)
        if (holds) await gate.promise
        return null
      },
    }
    return { stage: await openStage(t, { config: { users, limits: { inFlight } } }), asked, open: () => gate.resolve() }
  }

  const asking = (hint: string) => ({
    method: 'POST',
    headers: { authorization: credentials.kiosk, 'content-type': 'application/x-www-form-urlencoded' },
    body: String(new URLSearchParams({ scope: 'openid', login_hint: hint })),
  })

  test('a call whose caller hung up while a middleware of the application waited is not processed', async (t) => {
    const { stage, asked } = await withHook(t)
    const gate = Promise.withResolvers<void>()
    let [arrived, closed] = [0, 0]
    const app = express()
    app.use(async (_request, response, next) => {
      arrived += 1
      response.on('close', () => {
        closed += 1
      })
      await gate.promise
      next()
    })
    app.use(stage.doorbell.handler)
    const url = `${await listen(t, app)}/backchannel/authorize`
    const leaving = new AbortController()
    const left = Array.from({ length: 20 }, (_, n) =>
      fetch(url, { ...asking(`left ${n}`), signal: leaving.signal }).catch(() => 'gone'),
    )
    await until(() => arrived === 20)
    leaving.abort()
    await Promise.all(left)
    await until(() => closed === 20)
    gate.resolve()
    assert.equal((await fetch(url, asking('stays'))).status, 400)
    assert.deepEqual(asked, ['stays'])
  })

  for (const closed of [false, true]) {
    test(`a call that the application has answered before is left alone${closed ? ', also after closing' : ''}`, async (t) => {
      const { stage, asked } = await withHook(t)
      const thrown: unknown[] = []
      const handled = new Set<string>()
      const url = await listen(t, async (request, response) => {
        response.writeHead(504).end('too late')
        if (request.url === '/drained') await once(request.resume(), 'close')
        try {
          stage.doorbell.handler(request, response)
        } catch (error) {
          thrown.push(error)
        }
        handled.add(request.url!)
      })
      if (closed) await stage.doorbell.close()
      const paths = ['/backchannel/authorize', '/', '/health/live', '/oauth/jwks', '/nowhere', '/drained']
      for (const path of paths) {
        const call = path === '/backchannel/authorize' ? asking('x') : {}
        assert.equal((await fetch(url + path, call)).status, 504, path)
      }
      await until(() => handled.size === paths.length)
      assert.deepEqual([thrown, asked], [[], []])
      assert.ok(!stage.logLines.join().includes('mount.body_consumed'))
    })
  }

  test('a GET whose request was read to its end is answered', async (t) => {
    const { stage } = await withHook(t)
    const url = await listen(t, async (request, response) => {
      await once(request.resume(), 'end')
      stage.doorbell.handler(request, response)
    })
    assert.equal((await fetch(`${url}/oauth/jwks`)).status, 200)
    assert.equal((await fetch(`${url}/oauth/token`, { method: 'POST' })).status, 400)
  })

  test('with HTTP/2, calls are counted, many calls of one connection are answered, and closing waits for them', async (t) => {
    const { stage, asked, open } = await withHook(t, { holds: true, inFlight: 8 })
    const app = Fastify({ http2: true })
    t.after(() => app.close())
    await app.register(stage.doorbell.fastify)
    const connection = connect(await app.listen({ port: 0, host: '127.0.0.1' }))
    t.after(() => connection.destroy())
    const sent = Array.from({ length: 60 }, (_, n) => callOver(connection, asking(`hint ${n}`)))
    let answered = 0
    const statuses = Promise.all(sent.map((call) => call.finally(() => (answered += 1))))
    await until(() => answered === 60 - asked.length)
    assert.equal(asked.length, 4, 'a client has half of the places at most')
    const closing = stage.doorbell.close()
    open()
    await closing
    const counted = (await statuses).reduce(
      (counts, status) => counts.set(status, (counts.get(status) ?? 0) + 1),
      new Map(),
    )
    assert.deepEqual(Object.fromEntries(counted), { 400: 4, 503: 56 })
  })
})

interface Asking {
  method: string
  headers: Record<string, string>
  body: string
}

function callOver(connection: ClientHttp2Session, { method, headers, body }: Asking): Promise<number> {
  const call = connection.request({ ...headers, ':method': method, ':path': '/backchannel/authorize' })
  return new Promise((resolve, reject) => {
    call.on('response', (answer) => {
      call.resume().on('end', () => resolve(Number(answer[':status'])))
    })
    call.on('error', reject)
    call.end(body)
  })
}
