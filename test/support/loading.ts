/**
 * A program that starts a server, sends it one authentication request and one poll, and stops it. Then the program
 * prints as JSON the libraries that were loaded until the server listened, and all files that were loaded afterwards.
 * The program receives the settings as JSON.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { registerHooks } from 'node:module'
import type { AddressInfo } from 'node:net'

export interface Loaded {
  libraries: string[]
  afterwards: string[]
}

const files: string[] = []
registerHooks({
  load(url, context, next) {
    if (url.startsWith('file:')) files.push(url)
    return next(url, context)
  },
})
const { createDoorbell } = await import('../../src/index.ts')

const given = JSON.parse(process.argv[2]!)
const secret = 'a secret of the till'
const doorbell = await createDoorbell(
  {
    issuer: 'https://id.example.com',
    secret: Buffer.alloc(32, 1).toString('base64url'),
    logLevel: 'silent',
    users: [{ id: 'u1', username: 'ana' }],
    ...given,
    clients: [
      { client_id: 'till', client_secret: secret, backchannel_token_delivery_mode: 'poll' },
      ...(given.clients ?? []),
    ],
  },
  { migrate: true },
)
const server = createServer(doorbell.handler).listen(0, '127.0.0.1')
await once(server, 'listening')
const libraries = [...new Set(files.splice(0).map(libraryOf))].filter((name) => name !== undefined).sort()

const { auth_req_id } = await post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' })
const { error } = await post('/oauth/token', { grant_type: 'urn:openid:params:grant-type:ciba', auth_req_id })
if (error !== 'authorization_pending') throw new Error(`the poll heard ${error}`)
process.stdout.write(JSON.stringify({ libraries, afterwards: files } satisfies Loaded))
server.close()
await doorbell.close()
process.exit()

async function post(path: string, form: Record<string, string | undefined>): Promise<Record<string, string>> {
  const { port } = server.address() as AddressInfo
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`till:${encodeURIComponent(secret)}`)}` },
    body: new URLSearchParams(form as Record<string, string>),
  })
  return (await answer.json()) as Record<string, string>
}

function libraryOf(url: string): string | undefined {
  return /node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*node_modules)/.exec(url)?.[1]
}
