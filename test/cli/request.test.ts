/** `doorbell request` with providers that behave in unusual ways. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { freePort } from '../support/ports.ts'
import { openTerminal } from './terminal.ts'

type Form = Record<string, string>
type Reply = { status: number; headers?: Record<string, string>; body: object }

interface OddProvider {
  issuer: string
  /** The time of each poll, and the authentication request. */
  polls: number[]
  received: Promise<Form>
  idToken(claims: object): Promise<string>
}

/** Starts a provider that answers each poll with the next of `replies`. @param polling what it tells clients that may poll */
async function openProvider(
  t: TestContext,
  replies: (provider: OddProvider) => Promise<Reply>[] | Reply[],
  polling: { interval?: number } = { interval: 1 },
): Promise<OddProvider> {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const received = Promise.withResolvers<Form>()
  const server = createServer(async (request, response) => {
    const form = await readForm(request)
    const { status, headers = {}, body } = await answer(request.url!, form)
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  const issuer = `http://localhost:${(server.address() as AddressInfo).port}`
  const provider: OddProvider = {
    issuer,
    polls: [],
    received: received.promise,
    idToken: (claims) =>
      new SignJWT({ iss: issuer, aud: 'till', sub: 'ana', ...claims })
        .setProtectedHeader({ alg: 'ES256', kid: 'one' })
        .setIssuedAt()
        .setExpirationTime('5 minutes')
        .sign(privateKey),
  }
  const left = replies(provider)

  async function answer(path: string, form: Form): Promise<Reply> {
    switch (path) {
      case '/.well-known/openid-configuration':
        return ok({
          issuer,
          token_endpoint: `${issuer}/token`,
          backchannel_authentication_endpoint: `${issuer}/ring`,
          jwks_uri: `${issuer}/jwks`,
          id_token_signing_alg_values_supported: ['ES256'],
        })
      case '/jwks':
        return ok({ keys: [{ ...(await exportJWK(publicKey)), kid: 'one', alg: 'ES256' }] })
      case '/ring':
        received.resolve(form)
        return ok({ auth_req_id: 'the-request', expires_in: 60, ...polling })
      default:
        provider.polls.push(performance.now())
        return left.length > 1 ? left.shift()! : left[0]!
    }
  }
  return provider
}

const ok = (body: object): Reply => ({ status: 200, body })

async function readForm(request: IncomingMessage): Promise<Form> {
  let text = ''
  for await (const chunk of request) text += chunk
  return Object.fromEntries(new URLSearchParams(text))
}

const played = (issuer: string) => [
  'request',
  '--client',
  'till',
  '--client-secret',
  's',
  '--login-hint',
  'ana',
  '--issuer',
  issuer,
]

test('polls at once, then after the interval; 503 is waited out, and slow_down lengthens all later intervals', async (t) => {
  const terminal = await openTerminal(t)
  const provider = await openProvider(t, ({ idToken }) => [
    Promise.resolve({ status: 400, body: { error: 'authorization_pending' } }),
    Promise.resolve({ status: 503, headers: { 'retry-after': '2' }, body: {} }),
    Promise.resolve({ status: 400, body: { error: 'slow_down' } }),
    idToken({}).then((id_token) => ok({ access_token: 'a', token_type: 'Bearer', id_token })),
  ])
  const { code, stdout, stderr } = await terminal.run(played(provider.issuer))
  assert.equal(code, 0, stderr)
  assert.match(stdout, /slower polling: every 6 s/)
  const pauses = provider.polls.slice(1).map((time, index) => time - provider.polls[index]!)
  for (const [index, least] of [1000, 2000, 6000].entries()) {
    // A timer may fire slightly early according to another clock.
    assert.ok(pauses[index]! >= least - 20, `pause ${index}: ${pauses[index]}`)
  }
})

test('an ID token with another audience is rejected', async (t) => {
  const terminal = await openTerminal(t)
  const provider = await openProvider(t, ({ idToken }) => [
    idToken({ aud: 'another' }).then((id_token) => ok({ access_token: 'a', token_type: 'Bearer', id_token })),
  ])
  const { code, stdout, stderr } = await terminal.run([...played(provider.issuer), '--json'])
  assert.equal(code, 1)
  assert.equal(stdout, '')
  assert.match(stderr, /ID token that is not valid: unexpected "aud"/)
})

test('a provider with another issuer is rejected', async (t) => {
  const terminal = await openTerminal(t)
  const provider = await openProvider(t, () => [ok({})])
  const other = provider.issuer.replace('localhost', '127.0.0.1')
  const { code, stderr } = await terminal.run(played(other))
  assert.equal(code, 1)
  assert.match(stderr, /has the issuer http:\/\/localhost/)
})

test('notifications with another token get 401, and the one with the token of the request gets 204 (PI-4, PU-6)', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const provider = await openProvider(t, () => [ok({})], {})
  const request = terminal.start([...played(provider.issuer), '--mode', 'push', '--callback-port', String(port)])
  const { client_notification_token: token = '' } = await provider.received
  await request.says(/Waiting/)
  const notify = async (authorization: string | undefined, body: object) => {
    const response = await fetch(`http://127.0.0.1:${port}/notify`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(authorization !== undefined && { authorization }) },
      body: JSON.stringify(body),
    })
    return [response.status, response.headers.get('www-authenticate')]
  }
  const pushed = { auth_req_id: 'the-request', error: 'access_denied' }
  for (const authorization of [
    undefined,
    'Bearer',
    'Bearer another-token',
    `Bearer ${token}x`,
    `Bearer ${token.slice(1)}`,
    `Bearer ${token.toUpperCase()}`,
    `Basic ${Buffer.from(`:${token}`).toString('base64')}`,
    token,
  ]) {
    assert.deepEqual(await notify(authorization, pushed), [401, 'Bearer'], String(authorization))
  }
  assert.deepEqual(await notify(`bearer ${token}`, pushed), [204, null])
  const { code } = await request.ended
  assert.equal(code, 2, 'denied')
})

test('a push client that is registered for another mode does not wait: the response names an interval (CIBA Core §7.3)', async (t) => {
  const terminal = await openTerminal(t)
  const port = String(await freePort())
  const provider = await openProvider(t, () => [ok({})], { interval: 5 })
  const { code, stderr } = await terminal.run([...played(provider.issuer), '--mode', 'push', '--callback-port', port])
  assert.equal(code, 1)
  assert.match(stderr, /registered for poll or ping, not for push\. Use --mode poll or --mode ping/)
})

test('a push: unknown callers are refused, and tokens that do not match the ID token are rejected', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const provider = await openProvider(t, () => [ok({})], {})
  const request = terminal.start([...played(provider.issuer), '--mode', 'push', '--callback-port', String(port)])
  const { client_notification_token: token } = await provider.received
  const push = async (bearer: string, claims: object) => {
    const id_token = await provider.idToken(claims)
    return fetch(`http://127.0.0.1:${port}/anything`, {
      method: 'POST',
      headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
      body: JSON.stringify({ auth_req_id: 'the-request', access_token: 'a', token_type: 'Bearer', id_token }),
    })
  }
  await request.says(/Waiting/)
  assert.equal((await push('another-token', {})).status, 401)
  await push(token!, { at_hash: 'wrong', 'urn:openid:params:jwt:claim:auth_req_id': 'the-request' })
  const { code, stderr } = await request.ended
  assert.equal(code, 1)
  assert.match(stderr, /does not match the tokens that were pushed with it: at_hash is wrong/)
})

test('a pushed ID token that the provider has not signed is rejected', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const provider = await openProvider(t, () => [ok({})], {})
  const request = terminal.start([...played(provider.issuer), '--mode', 'push', '--callback-port', String(port)])
  const { client_notification_token: token } = await provider.received
  await request.says(/Waiting/)
  const id_token = (await provider.idToken({})).replace(/.{20}$/, 'A'.repeat(20))
  await fetch(`http://127.0.0.1:${port}/`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ auth_req_id: 'the-request', access_token: 'a', token_type: 'Bearer', id_token }),
  })
  const { code, stderr } = await request.ended
  assert.equal(code, 1)
  assert.match(stderr, /ID token that is not valid: .*signature verification failed/)
})

test('pings and pushes of a real server arrive at the endpoint of the configuration', async (t) => {
  const terminal = await openTerminal(t)
  const [port, shop, bank] = [await freePort(), await freePort(), await freePort()]
  const client = (client_id: string, mode: string, at: number) => ({
    client_id,
    client_secret: `secret-of-${client_id}`,
    grant_types: mode === 'push' ? ['refresh_token'] : ['urn:openid:params:grant-type:ciba', 'refresh_token'],
    backchannel_token_delivery_mode: mode,
    backchannel_client_notification_endpoint: `http://localhost:${at}/notify`,
  })
  const clients = [
    client('shop', 'ping', shop),
    client('bank', 'push', bank),
    { client_id: 'phones', client_secret: 'secret-of-phones', backchannel_device_service: true },
  ]
  const config = { port, development: true, clients, users: [{ username: 'ana' }] }
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))
  await terminal.serve([])

  for (const name of ['shop', 'bank']) {
    const args = ['request', '--client', name, '--login-hint', 'ana', '--scope', 'openid offline_access', '--json']
    const request = terminal.start(args)
    await request.says(/Waiting/)
    assert.equal((await terminal.run(['device', '--user', 'ana', '--approve', 'latest'])).code, 0)
    const { code, stdout, stderr } = await request.ended
    assert.equal(code, 0, stderr)
    const result = JSON.parse(stdout)
    assert.equal(result.id_token.claims.sub, 'ana')
    assert.equal(typeof result.tokens.refresh_token, 'string')
    const vouched = 'urn:openid:params:jwt:claim:rt_hash' in result.id_token.claims
    assert.equal(vouched, name === 'bank')
  }
})

test('a client that was added by command for ping or push: one message says what to add, and then it works', async (t) => {
  const terminal = await openTerminal(t)
  const [port, shop, bank] = [await freePort(), await freePort(), await freePort()]
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify({ port, development: true }))
  await terminal.serve([])
  await terminal.json(['user', 'add', '--id', 'u-1', '--username', 'dora'])
  const phones = await terminal.json(['client', 'add', '--id', 'phones', '--device-service'])
  for (const [id, mode, at] of [
    ['shop', 'ping', shop],
    ['bank', 'push', bank],
  ] as const) {
    const endpoint = `http://localhost:${at}/ciba`
    const added = await terminal.json(['client', 'add', '--id', id, '--mode', mode, '--endpoint', endpoint])
    const secret = ['--client-secret', String(added.client_secret)]
    const args = ['request', '--client', id, ...secret, '--login-hint', 'dora']
    const refused = await terminal.run(args)
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, new RegExp(`--mode ${mode} --callback-port \\d+`))

    const request = terminal.start([...args, '--mode', mode, '--callback-port', String(at), '--json'])
    await request.says(/Waiting/)
    const device = ['device', '--client', 'phones', '--client-secret', String(phones.client_secret), '--user', 'dora']
    assert.equal((await terminal.run([...device, '--approve', 'latest'])).code, 0)
    const { code, stdout, stderr } = await request.ended
    assert.equal(code, 0, stderr)
    assert.equal(JSON.parse(stdout).id_token.claims.sub, 'u-1')
  }
})
