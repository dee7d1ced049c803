/**
 * What both Node clients share: the material, decisions, notifications, `fetch` with client certificates, and some
 * assertions.
 */
import { strict as assert } from 'node:assert'
import { createHash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { importPKCS8 } from 'jose'
import { Agent, fetch as undiciFetch } from 'undici'
import type { Flow } from '../flows.ts'
import type { ClientMaterial, Material } from '../server.ts'

export const material = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as Material
export const issuer = new URL(material.issuer)
const ca = await readFile(material.authority, 'utf8')
const modules = fileURLToPath(new URL('../../../node_modules', import.meta.url))
const agents: Agent[] = []

/** Returns a `fetch` that trusts the server, and sends the certificate of this client, if it has one. */
export async function fetchAs(client: Pick<ClientMaterial, 'cert' | 'key'> = {}) {
  const shown = client.cert && { cert: await readFile(client.cert), key: await readFile(client.key!) }
  const dispatcher = new Agent({ connect: { ca, ...shown } })
  agents.push(dispatcher)
  return (url: string, options: object) => undiciFetch(url, { ...options, dispatcher }) as unknown as Promise<Response>
}

const plain = await fetchAs()

export async function decide(authReqId: string, action: 'allow' | 'deny' = 'allow'): Promise<void> {
  const body = new URLSearchParams({ auth_req_id: authReqId, action })
  const answer = await plain(material.decide, { method: 'POST', body })
  assert.equal(answer.status, 200, await answer.text())
}

/** The parameters of most authentication requests. */
export const asked = { login_hint: material.login_hint, scope: 'openid offline_access', binding_message: 'Coffee 4.20' }

/** Returns the key of a client with `private_key_jwt`, and the key's id. */
export async function signing({ jwk, pem }: ClientMaterial) {
  return { key: await importPKCS8(pem!, jwk!.alg!), kid: jwk!.kid! }
}

/**
 * Rejects unless the call is refused with this status and error. If the response has a challenge, the error of both
 * libraries contains the status but no error code.
 */
export async function refused(call: Promise<unknown>, status: number, error?: string): Promise<void> {
  await assert.rejects(call, (problem: { status?: number; error?: string; cause?: unknown }) => {
    assert.equal(problem.status, status, String(problem.cause ?? problem))
    if (error !== undefined) assert.equal(problem.error, error)
    return true
  })
}

/**
 * Checks what only the ID token of a push contains: the request, and the hash of the access token (CIBA Core §10.3.1).
 */
export function assertPushed(claims: Record<string, unknown>, authReqId: string, accessToken: string): void {
  assert.deepEqual([claims.sub, claims['urn:openid:params:jwt:claim:auth_req_id']], [material.sub, authReqId])
  const hash = createHash('sha256').update(accessToken).digest().subarray(0, 16).toString('base64url')
  assert.equal(claims.at_hash, hash)
}

export const newNotificationToken = () => randomBytes(24).toString('base64url')

interface Notification {
  path: string
  authorization: string | undefined
  body: Record<string, unknown>
}

const received: Notification[] = []
let onNotification = (_: Notification) => {}

const { key, cert, port } = material.endpoint
const endpoint = createServer({ key: await readFile(key), cert: await readFile(cert) }, async (request, response) => {
  let text = ''
  for await (const chunk of request) text += chunk
  const notification = { path: request.url!, authorization: request.headers.authorization, body: JSON.parse(text) }
  response.writeHead(204).end()
  received.push(notification)
  onNotification(notification)
})
await new Promise<void>((resolve) => endpoint.listen(port, '127.0.0.1', resolve))

/**
 * Resolves to the body of the notification about a request. Checks that the notification was sent to this path with
 * this token.
 */
export async function notified(authReqId: string, path: string, token: string): Promise<Record<string, unknown>> {
  const heard = await notificationAbout(authReqId)
  assert.deepEqual([heard.path, heard.authorization], [path, `Bearer ${token}`])
  return heard.body
}

function notificationAbout(authReqId: string): Promise<Notification> {
  const isAbout = ({ body }: Notification) => body.auth_req_id === authReqId
  return new Promise((resolve, reject) => {
    const found = received.find(isAbout)
    if (found) return resolve(found)
    const timer = setTimeout(() => reject(new Error('no notification within 10 s')), 10_000)
    onNotification = (notification) => {
      if (!isAbout(notification)) return
      clearTimeout(timer)
      resolve(notification)
    }
  })
}

/** Runs the flows one after the other. If a flow resolves to a text, the text is a remark about how it was run. */
export async function playAll(library: string, plays: Record<Flow, () => Promise<string | undefined>>): Promise<void> {
  const { version } = JSON.parse(await readFile(join(modules, library, 'package.json'), 'utf8')) as { version: string }
  process.stdout.write(`${library} ${version}, Node ${process.version}\n`)
  try {
    for (const [flow, play] of Object.entries(plays)) {
      const how = await play().catch((error: unknown) => {
        process.stdout.write(`${library}: ${flow} … NOT ok\n`)
        throw error
      })
      process.stdout.write(`${library}: ${flow} … ok${how === undefined ? '' : ` (${how})`}\n`)
    }
  } finally {
    endpoint.closeAllConnections()
    endpoint.close()
    await Promise.all(agents.map((agent) => agent.destroy()))
  }
}
