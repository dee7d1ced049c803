/**
 * The issuer has a path: `https://id.example.com/tenants/bank`. Every address that clients, browsers and mails get begins
 * with the issuer, whether a proxy keeps the path or removes it, and also if Doorbell is mounted in another server.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, request, type ServerResponse } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import express from 'express'
import Fastify from 'fastify'
import * as openid from 'openid-client'
import type { ConfigInput } from '../../src/config/config.ts'
import { ownSegments } from '../../src/config/issuer-path.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { freePort } from '../support/ports.ts'
import { routesOf } from '../support/routes.ts'
import { ana, openStage, type Stage, secrets } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'
import { formTokenOn, openVisitor, type Seen } from '../support/visitor.ts'

const path = '/tenants/bank'

/** Starts a server at the address of the issuer, in front of Doorbell or around it. */
type Front = (stage: Stage, port: number) => Promise<{ close(): unknown }>

const fronts: Record<string, Front> = {
  'a proxy that keeps the path': (stage, port) =>
    listen(
      proxyTo(stage, (url) => url),
      port,
    ),
  'a proxy that removes the path': (stage, port) =>
    listen(
      proxyTo(stage, (url) => url.replace(path, '')),
      port,
    ),
  'Express, with Doorbell at the path': (stage, port) =>
    listen(express().use(path, stage.doorbell.handler).use(shop), port),
  'Express, with Doorbell for all paths': (stage, port) =>
    listen(express().use(stage.doorbell.handler).use(shop), port),
  'Fastify, with the path as prefix': (stage, port) => listenFastify(stage, port, { prefix: path }),
  'Fastify, without a prefix': (stage, port) => listenFastify(stage, port, {}),
}

const shop: RequestListener = ({ url }, response) => {
  if (url !== '/') response.statusCode = 404
  response.end('the shop')
}

async function listenFastify(stage: Stage, port: number, options: { prefix?: string }) {
  const app = Fastify()
  await app.register(stage.doorbell.fastify, options)
  app.get('/', async () => 'the shop')
  await app.listen({ port, host: 'localhost' })
  return app
}

async function listen(listener: RequestListener, port: number) {
  const server = createServer(listener).listen(port, 'localhost')
  await once(server, 'listening')
  return {
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

function proxyTo({ url: target }: Stage, pathOf: (url: string) => string): RequestListener {
  return (call, response) => {
    if (!call.url!.startsWith(path)) return shop(call, response)
    forward(call, response, target + pathOf(call.url!))
  }
}

function forward(call: IncomingMessage, response: ServerResponse, url: string): void {
  const { method = 'GET', headers } = call
  const forwarded = request(url, { method, headers }, (answer) => {
    response.writeHead(answer.statusCode!, answer.headers)
    answer.pipe(response)
  })
  call.pipe(forwarded)
}

async function opened(t: TestContext, front: Front, more: (port: number) => ConfigInput = () => ({})) {
  const port = await freePort()
  const origin = `http://localhost:${port}`
  const issuer = origin + path
  const stage = await openStage(t, { config: { issuer, registration: { mode: 'open' }, ...more(port) } })
  const server = await front(stage, port)
  closeAfter(t, async () => void (await server.close()))
  return { stage, origin, issuer }
}

for (const [what, front] of Object.entries(fronts)) {
  describe(what, () => {
    test('clients find each endpoint in the metadata, and each answers', async (t) => {
      const { issuer, origin } = await opened(t, front)
      const metadata = (await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()) as object
      const addresses = Object.entries(metadata).filter(([, value]) => String(value).startsWith('http'))
      assert.ok(addresses.length > 8)
      for (const [name, address] of addresses) {
        assert.match(address, new RegExp(`^${issuer}(/|$)`), name)
        if (name !== 'issuer') assert.notEqual((await fetch(address, { redirect: 'manual' })).status, 404, name)
      }
      assert.equal(await (await fetch(origin)).text(), 'the shop')
    })

    test('a client asks, the user approves in the app, and the client gets tokens with DPoP', async (t) => {
      const { stage, issuer, origin } = await opened(t, front)
      const client = await discovered(issuer)
      const DPoP = openid.getDPoPHandle(client, await openid.randomDPoPKeyPair('ES256'))
      const asked = { scope: 'openid email', login_hint: 'ana', binding_message: 'Coffee 4.20' }
      const response = await openid.initiateBackchannelAuthentication(client, asked)
      await approveInTheApp(stage, issuer, origin)
      const tokens = await openid.pollBackchannelAuthenticationGrant(client, { ...response, interval: 0 }, undefined, {
        DPoP,
        signal: AbortSignal.timeout(3000),
      })
      assert.deepEqual([tokens.token_type, tokens.claims()?.iss], ['dpop', issuer])
      const about = await openid.fetchUserInfo(client, tokens.access_token, tokens.claims()!.sub, { DPoP })
      assert.equal(about.email, ana.email)
    })

    test('a registered client gets the address of its registration', async (t) => {
      const { issuer } = await opened(t, front)
      const metadata = { grant_types: ['authorization_code'], redirect_uris: ['https://a.example/cb'] }
      const registered = await fetch(`${issuer}/oauth/register`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(metadata),
      })
      const { registration_client_uri, registration_access_token } = (await registered.json()) as Record<string, string>
      assert.ok(registration_client_uri?.startsWith(`${issuer}/oauth/register/`))
      const read = await fetch(registration_client_uri!, {
        headers: { authorization: `Bearer ${registration_access_token}` },
      })
      assert.equal(read.status, 200)
    })
  })
}

function discovered(issuer: string): Promise<openid.Configuration> {
  const metadata = { id_token_signed_response_alg: 'ES256', dpop_bound_access_tokens: true }
  return openid.discovery(new URL(issuer), 'kiosk', metadata, openid.ClientSecretBasic(secrets.kiosk), {
    execute: [openid.allowInsecureRequests],
  })
}

/**
 * Ana opens the link in her mail, signs in, approves, looks at all pages, and signs out. Each redirect and each address in
 * a page begins with the path.
 */
async function approveInTheApp(stage: Stage, issuer: string, origin: string): Promise<void> {
  const { body } = await stage.get('/dev/mailbox', { accept: 'application/json' })
  const { link } = (body.mails as { link: string }[]).at(-1)!
  assert.ok(link.startsWith(`${issuer}/approve/`), link)
  const visitor = checking(openVisitor(origin))
  const page = await visitor.signIn(ana, link.slice(origin.length))
  const approve = link.slice(origin.length)
  assert.match(page.text, new RegExp(`<form id="approving" method="post" action="${approve}"`))
  const decided = await visitor.post(approve, { form_token: formTokenOn(page), decision: 'approve' })
  assert.equal(decided.location, `${approve}?just=approve`)
  for (const each of ['/', '/activity', '/passkeys', '/sessions', '/nothing-here', '/oauth/logout', '/dev/mailbox']) {
    const { status, text } = await visitor.follow(await visitor.get(path + each))
    assert.equal(status, each === '/nothing-here' ? 404 : 200, each)
    for (const [, file] of text.matchAll(/(?:src|href)="([^"]+\.(?:js|css|svg|webmanifest))"/g)) {
      assert.equal((await visitor.get(file!)).status, 200, file)
    }
  }
  for (const name of visitor.jar.keys()) assert.match(name, /\.tenants\.bank(\.sig)?$/)
  const signedOut = await visitor.post(`${path}/session/end`, {
    form_token: formTokenOn(await visitor.get(`${path}/`)),
  })
  assert.equal(signedOut.location, `${path}/session/start`)
  assert.match((await visitor.follow(signedOut)).text, /\/tenants\/bank\/sign-in\//)
}

function checking(visitor: ReturnType<typeof openVisitor>): ReturnType<typeof openVisitor> {
  const checked = (seen: Seen): Seen => {
    const page = seen.headers.get('content-type')?.startsWith('text/html') ? seen.text : ''
    const addresses = [...page.matchAll(/\s(?:href|action|src|data-live|data-passkey-options)="(\/[^"]*)"/g)]
    for (const address of [seen.location, ...addresses.map(([, address]) => address)]) {
      assert.ok(address === undefined || address.startsWith(`${path}/`), address)
    }
    for (const cookie of seen.headers.getSetCookie()) {
      assert.match(cookie, /; path=\/(;|$|tenants\/bank\/)/i, cookie)
    }
    return seen
  }
  const { get, post, send } = visitor
  visitor.send = async (...call) => checked(await send(...call))
  visitor.get = async (...call) => checked(await get(...call))
  visitor.post = async (...call) => checked(await post(...call))
  return visitor
}

test('the metadata of RFC 8414 is at the host, with the path of the issuer at the end', async (t) => {
  const { stage, issuer } = await opened(t, fronts['a proxy that keeps the path']!)
  for (const address of [
    `/.well-known/oauth-authorization-server${path}`,
    `${path}/.well-known/oauth-authorization-server`,
  ]) {
    const { status, body } = await stage.get(address)
    assert.deepEqual([status, body.issuer], [200, issuer], address)
  }
  for (const wrong of [
    `${path}x/oauth/jwks`,
    `/x${path}/oauth/jwks`,
    `${path}${path}/oauth/jwks`,
    `${path}//oauth/jwks`,
  ]) {
    assert.equal((await stage.get(wrong)).status, 404, wrong)
  }
})

test('two servers on one host, with other paths: a user who signs in at one stays signed in at the other', async (t) => {
  const port = await freePort()
  const origin = `http://localhost:${port}`
  const tenants = ['/tenants/bank', '/tenants/shop', '/tenants/bank.shop']
  const targets = new Map<string, string>()
  for (const tenant of tenants) {
    targets.set(tenant, (await openStage(t, { config: { issuer: origin + tenant } })).url)
  }
  const server = await listen((call, response) => {
    const tenant = call.url!.split('/', 3).join('/')
    forward(call, response, targets.get(tenant)! + call.url)
  }, port)
  closeAfter(t, async () => server.close())
  const visitor = openVisitor(origin)
  for (const tenant of tenants) await visitor.signIn(ana, `${tenant}/`)
  for (const tenant of tenants) assert.equal((await visitor.get(`${tenant}/`)).status, 200, tenant)
  const form_token = formTokenOn(await visitor.get('/tenants/bank/'))
  await visitor.post('/tenants/bank/session/end', { form_token })
  const statuses = await Promise.all(tenants.map(async (tenant) => (await visitor.get(`${tenant}/`)).status))
  assert.deepEqual(statuses, [303, 200, 200])
})

test('the path of an issuer does not begin like a path of this server: those are all in the list', async (t) => {
  const demo = await loadConfig({
    env: {},
    demo: true,
    overrides: { database: 'sqlite::memory:', port: await freePort() },
  })
  const doorbell = await createDoorbell(demo, { log: createLog('silent') })
  closeAfter(t, () => doorbell.close())
  const stage = await openStage(t, { config: { registration: { mode: 'open' }, metrics: { enabled: true } } })
  const routes = [...(await routesOf(stage)), ...(await routesOf({ doorbell }))]
  const used = new Set(routes.map(({ url }) => url.split('/')[1]!).filter((segment) => segment !== ''))
  assert.deepEqual([...used].sort(), [...ownSegments].sort())
})

test('the aliases for certificates may be below the issuer, on the same host', async (t) => {
  const { stage, issuer, origin } = await opened(t, fronts['a proxy that keeps the path']!, (port) => ({
    mutualTls: { issuer: `https://localhost:${port}/tenants/bank/mtls` },
    proxy: { trust: ['127.0.0.1'], clientCertificateHeader: 'x-client-cert' },
  }))
  const { mtls_endpoint_aliases: aliases, ...metadata } = (await (
    await fetch(`${issuer}/.well-known/openid-configuration`)
  ).json()) as Record<string, unknown>
  assert.equal(Object.keys(aliases as object).length, 5)
  for (const alias of Object.values(aliases as Record<string, string>)) {
    assert.notEqual((await stage.get(new URL(alias).pathname)).status, 404, alias)
  }
  for (const address of Object.values(metadata).filter((value) => String(value).startsWith('http'))) {
    assert.doesNotMatch(String(address), /mtls/)
    if (address !== issuer) assert.notEqual((await fetch(String(address), { redirect: 'manual' })).status, 404)
  }
  await openVisitor(origin).signIn(ana, `${path}/`)
})
