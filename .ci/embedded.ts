// Beside an installed package: an application in TypeScript, checked with the strictest settings, types of packages included.
import { createServer } from 'node:http'
import { type ConfigInput, createDoorbell, defineConfig, type User } from 'doorbell-ciba'

const people: User[] = [{ id: 'u1', email: 'ana@example.com' }]
const config: ConfigInput = defineConfig({
  issuer: 'https://id.example.com',
  database: 'postgres://doorbell@localhost/doorbell',
  clients: [{ client_id: 'till', backchannel_token_delivery_mode: 'poll' }],
  users: {
    find: async (id) => people.find((user) => user.id === id) ?? null,
    findByHint: async ({ value }, client) => (client.client_id === 'till' ? (people[Number(value)] ?? null) : null),
  },
})
const doorbell = await createDoorbell(config, { migrate: true })
createServer(doorbell.handler).listen(4000)
const [waiting] = await doorbell.requests.list('u1', { only: 'open' })
if (waiting !== undefined) await doorbell.requests.approve(waiting.requestId, 'u1', { acr: 'phr' })
await doorbell.close({ delay: 5 })
