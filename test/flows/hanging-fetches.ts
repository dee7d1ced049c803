/** Clients whose key sets hang, other clients, and callers from any network. */
import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'
import type { TestContext } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { fetchLimits } from '../../src/platform/http/fetches.ts'
import { asserted, assertionOf, cibaEndpoints, isBelieved, newKey, pollClient } from '../support/assertions.ts'
import { type DocumentServer, openDocumentServer } from '../support/document-server.ts'
import { type Answer, basic, CIBA, openStage, type Stage, type StageOptions, secrets } from '../support/stage.ts'

/** The number of slots for calls. It is far less than the number of calls that may wait for a fetch. */
export const inFlight = 8
export const attackers = '198.51.100'
/** Returns an address. Each number gets an address in a network of its own. */
export const manyNetworks = (n: number) => (n % 2 ? `10.${n >> 8}.${n & 255}.1` : `2001:db8:${n.toString(16)}::1`)
export const { waiting, underWay } = fetchLimits

/** The key of the clients that sign. */
export const key = await newKey('one')
/** Another key with the same `kid`. */
export const foreign = await newKey('one')

export interface Scene {
  stage: Stage
  server: DocumentServer
  /** Posts a form from an address. `certificate` is the client certificate that the proxy forwards. */
  from(
    address: string,
    certificate?: string,
  ): (path: string, form: Record<string, string>, authorization?: string) => Promise<Answer>
  /** Opens a page from an address. */
  visit(address: string, path: string, cookie?: string): Promise<Answer>
  /** Registers from an address. */
  register(address: string, metadata: object): Promise<Answer>
  /** Updates a registered client from an address. */
  update(address: string, registered: Answer, metadata: object): Promise<Answer>
}

export const secret = newSecret()
export const signs = { token_endpoint_auth_method: 'private_key_jwt' } as const

export async function scene(t: TestContext, config: ConfigInput = {}, options: StageOptions = {}): Promise<Scene> {
  const server = await openDocumentServer(t)
  const stage = await openStage(t, {
    ...options,
    config: {
      limits: { inFlight },
      proxy: { trust: ['127.0.0.0/8', '::1'], clientCertificateHeader: 'X-Client-Cert' },
      // No call reaches this time limit while the test runs.
      notifications: { timeout: 60 },
      ...config,
      clients: [
        pollClient('slow', { ...signs, jwks_uri: server.byName, grant_types: [CIBA, 'refresh_token'] }),
        pollClient('local', { ...signs, jwks: { keys: [key.publicJwk] } }),
        pollClient('signing', {
          client_secret: secret,
          jwks_uri: server.byName,
          backchannel_authentication_request_signing_alg: 'ES256',
        }),
        { client_id: 'slow-service', ...signs, jwks_uri: server.byName, backchannel_device_service: true },
        ...(config.clients ?? []),
      ],
    },
  })
  // Drops the hanging calls before the stage closes, because the stage would wait for them.
  t.after(server.drop)
  // This is enough for all calls that wait for a fetch. Further calls wait for a connection, because more connections
  // would slow the machine down.
  const agent = new Agent({ keepAlive: true, maxSockets: waiting.eachUrl + 24 })
  t.after(() => agent.destroy())
  const send = (address: string, path: string, body: string, headers: Record<string, string>, method = 'POST') =>
    call(agent, stage.url + path, method, body, { 'x-forwarded-for': address, ...headers })
  return {
    stage,
    server,
    from: (address, certificate) => (path, form, authorization) =>
      send(address, path, String(new URLSearchParams(form)), {
        'content-type': 'application/x-www-form-urlencoded',
        ...(authorization && { authorization }),
        ...(certificate && { 'x-client-cert': certificate }),
      }),
    visit: (address, path, cookie) =>
      call(agent, stage.url + path, 'GET', undefined, { 'x-forwarded-for': address, ...(cookie && { cookie }) }),
    register: (address, metadata) => send(address, '/oauth/register', JSON.stringify(metadata), json),
    update(address, { body: { registration_client_uri, registration_access_token, client_id } }, metadata) {
      const { pathname } = new URL(String(registration_client_uri))
      const authorization = `Bearer ${registration_access_token}`
      return send(address, pathname, JSON.stringify({ ...metadata, client_id }), { ...json, authorization }, 'PUT')
    },
  }
}

const json = { 'content-type': 'application/json' }

function call(
  agent: Agent,
  url: string,
  method: string,
  body: string | undefined,
  headers: Record<string, string>,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, agent, headers }, async (response) => {
      const text = (await response.toArray()).join('')
      resolve({
        status: response.statusCode!,
        headers: new Headers(response.headers as Record<string, string>),
        text,
        body: text.startsWith('{') ? JSON.parse(text) : {},
      })
    })
    sent.on('error', reject).end(body)
  })
}

/**
 * Asserts that other clients are served: with a secret and with a key, polls and requests, from the attacker's network
 * and from other networks.
 */
export async function assertOthersAreServed({ stage, from }: Scene): Promise<void> {
  const kiosk = basic('kiosk', secrets.kiosk)
  for (const address of [`${attackers}.250`, '203.0.113.9', '2001:db8::9']) {
    const poll = await from(address)('/oauth/token', { grant_type: CIBA, auth_req_id: 'unknown' }, kiosk)
    assert.equal(poll.body.error, 'invalid_grant', `${address}: ${poll.text}`)
    assert.equal((await from(address)('/oauth/introspect', { token: 'x' }, kiosk)).status, 200, address)
    for (const { path, form } of cibaEndpoints) {
      const assertion = await assertionOf(stage, 'local', { key: key.privateKey })
      const answer = await from(address)(path, { ...form, ...asserted(assertion) })
      assert.ok(isBelieved(answer), `${address} ${path}: ${answer.text}`)
    }
    assert.equal((await from(address)('/backchannel/authinfo', { login_hint: 'ana' }, service)).status, 200, address)
  }
}

const service = basic('phone-service', secrets.phoneService)
