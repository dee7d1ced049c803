/** Runs the flows of `folder-visits.ts` in a marked build. Prints as JSON the folders that each flow has entered. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pathToFileURL } from 'node:url'

const [source = ''] = process.argv.slice(2)
const trail = new AsyncLocalStorage<string[]>()
Object.assign(globalThis, { enterFolder: (folder: string) => trail.getStore()?.push(folder) })

const { createDoorbell } = await import(pathToFileURL(`${source}index.js`).href)
const secret = 'A-secret-of-this-script_with-enough-of-it-43'
const pinged = Promise.withResolvers<void>()
const receiver = createServer((request, response) => {
  request.resume().on('end', () => {
    response.writeHead(204).end()
    pinged.resolve()
  })
})
const doorbell = await createDoorbell(
  {
    development: true,
    issuer: 'http://localhost:4000',
    database: 'sqlite::memory:',
    secret,
    clients: [
      {
        client_id: 'till',
        client_secret: secret,
        backchannel_token_delivery_mode: 'ping',
        backchannel_client_notification_endpoint: `http://localhost:${await listen(receiver)}/`,
      },
      { client_id: 'phones', client_secret: secret, backchannel_device_service: true },
    ],
    users: [{ username: 'ana' }],
    logLevel: 'silent',
  },
  { migrate: true },
)
let current: string[] = []
const server = createServer((request, response) =>
  trail.run(current, () => (doorbell.handler as RequestListener)(request, response)),
)
const port = await listen(server)

const found: Record<string, string[]> = {}
// The flows run twice, and only the second run is printed. So loading and first lookups are not counted.
for (let round = 0; round < 2; round++) {
  const { auth_req_id } = await call('request → stored', '/backchannel/authorize', 'till', {
    scope: 'openid',
    login_hint: 'ana',
    client_notification_token: secret,
  })
  current = []
  const { requests } = await call('listing', '/backchannel/authinfo', 'phones', { login_hint: 'ana', auth_req_id })
  const request_id = requests[0].request_id
  await call('decision → ping', '/backchannel/complete', 'phones', {
    login_hint: 'ana',
    request_id,
    status: 'approved',
  })
  await pinged.promise
  await doorbell.idle()
  await call('poll → tokens', '/oauth/token', 'till', {
    grant_type: 'urn:openid:params:grant-type:ciba',
    auth_req_id,
  })
}
await doorbell.close()
for (const each of [server, receiver]) each.closeAllConnections()
for (const each of [server, receiver]) each.close()
process.stdout.write(`\n${JSON.stringify(found)}`)

/** Makes a call that is recorded as `flow`. @returns the JSON of the response */
async function call(flow: string, path: string, client: string, form: Record<string, string>) {
  current = []
  found[flow] = current
  const response = await fetch(`http://localhost:${port}${path}`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${client}:${secret}`).toString('base64')}` },
    body: new URLSearchParams(form),
  })
  const text = await response.text()
  if (response.status >= 300) throw new Error(`${flow} was answered ${response.status} ${text}`)
  return text === '' ? {} : JSON.parse(text)
}

function listen(server: ReturnType<typeof createServer>): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })
}
