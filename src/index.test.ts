import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { fastify } from 'fastify'
import { createDoorbell, defineConfig } from './index.ts'

const quiet = defineConfig({
  development: true,
  database: 'sqlite::memory:',
  secret: Buffer.alloc(32, 1).toString('base64url'),
  logLevel: 'silent',
  clients: [{ client_id: 'till', client_secret: 'a secret of the till', backchannel_token_delivery_mode: 'poll' }],
  users: [{ id: 'u1', username: 'ana' }],
})

const sendAuthenticationRequest = (url: string) =>
  fetch(`${url}/backchannel/authorize`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from('till:a+secret+of+the+till').toString('base64')}` },
    body: new URLSearchParams({ scope: 'openid', login_hint: 'ana' }),
  })

test('the handler works in a plain Node server, and the application can list and decide open requests', async (t) => {
  const doorbell = await createDoorbell(quiet)
  t.after(() => doorbell.close())
  const server = createServer(doorbell.handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo

  assert.equal((await sendAuthenticationRequest(`http://127.0.0.1:${port}`)).status, 200)

  const [waiting] = await doorbell.requests.list('u1', { only: 'open' })
  assert.equal(waiting?.clientId, 'till')
  assert.deepEqual(await doorbell.requests.deny(waiting!.requestId, 'u1'), { kind: 'settled', status: 'denied' })
  assert.deepEqual(await doorbell.requests.list('u1', { only: 'open' }), [])
})

test('the plugin adds the routes to a Fastify server and does not change its other routes', async (t) => {
  const doorbell = await createDoorbell(quiet)
  const host = fastify()
  host.post('/own', async (request) => ({ got: request.body }))
  await host.register(doorbell.fastify)
  const url = await host.listen({ port: 0, host: '127.0.0.1' })
  t.after(() => host.close())
  t.after(() => doorbell.close())

  assert.equal((await sendAuthenticationRequest(url)).status, 200)
  const own = await fetch(`${url}/own`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"a":1}',
  })
  assert.deepEqual(await own.json(), { got: { a: 1 } })
  assert.equal((await fetch(`${url}/somewhere`)).status, 404)
})

test('a request whose body was already parsed gets status 500 instead of waiting for ever', async (t) => {
  const doorbell = await createDoorbell(quiet)
  t.after(() => doorbell.close())
  const server = createServer(async (request, response) => {
    for await (const _ of request);
    doorbell.handler(request, response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  assert.equal((await sendAuthenticationRequest(`http://127.0.0.1:${port}`)).status, 500)
})
