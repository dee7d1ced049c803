import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { demoClients, demoUsers } from './demo.ts'
import { type LoadOptions, loadConfig } from './load.ts'

const cwd = tmpdir()
const database = 'sqlite::memory:'

async function load(overrides: LoadOptions['overrides'] = {}) {
  return loadConfig({ cwd, env: {}, demo: true, overrides: { database, ...overrides } })
}

test('the demo clients and users are added', async () => {
  const config = await load()
  assert.equal(config.demo, true)
  assert.equal(config.development, true)
  assert.equal(config.issuer, 'http://localhost:4000')
  assert.deepEqual(
    config.clients.map((client) => [client.client_id, client.backchannel_token_delivery_mode]),
    [
      ['demo-till', 'poll'],
      ['demo-shop', 'ping'],
      ['demo-bank', 'push'],
      ['demo-device', undefined],
      ['demo-app', undefined],
    ],
  )
  assert.deepEqual(config.users, demoUsers)
})

test('notification endpoints are at this server', async () => {
  const endpoint = async (overrides: LoadOptions['overrides']) =>
    (await load(overrides)).clients[1]?.backchannel_client_notification_endpoint
  assert.equal(await endpoint({ port: 4321 }), 'http://localhost:4321/dev/callback/demo-shop')
  assert.equal(await endpoint({ issuer: 'http://127.0.0.1:5000' }), 'http://127.0.0.1:5000/dev/callback/demo-shop')
  const elsewhere = { issuer: 'http://192.168.1.5:4000', development: 'exposed' } as const
  assert.equal(await endpoint(elsewhere), 'http://localhost:4000/dev/callback/demo-shop')
})

test('configured clients and users are added, and replace those with the same id', async () => {
  const till = { ...demoClients('')[0], client_id: 'demo-till', client_name: 'My Till' }
  const config = await load({ clients: [till], users: [{ username: 'dora' }] })
  assert.equal(config.clients.length, 5)
  assert.equal(config.clients.at(-1)?.client_name, 'My Till')
  assert.ok(Array.isArray(config.users) && config.users.length === 4)
})

test('the demo is refused in production', async () => {
  await assert.rejects(load({ development: false, issuer: 'https://id.example.com' }), /development must be true/)
})
