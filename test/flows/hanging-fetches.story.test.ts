/**
 * The fetches of clients' key sets hang, and unauthenticated callers can cause a thousand such fetches. Other users and
 * clients are not affected.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { SignJWT } from 'jose'
import { newSecret } from '../../src/platform/crypto.ts'
import { waitLimits } from '../../src/platform/http/bounded-wait.ts'
import { asserted, assertionOf, cibaEndpoints, isBelieved, type KeyHolder, pollClient } from '../support/assertions.ts'
import { certify } from '../support/certificates.ts'
import { gather, openDocumentServer } from '../support/document-server.ts'
import { engines } from '../support/engines.ts'
import { basic, secrets } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'
import { until } from '../support/until.ts'
import {
  assertOthersAreServed,
  attackers,
  foreign,
  inFlight,
  key,
  manyNetworks,
  type Scene,
  scene,
  secret,
  waiting,
} from './hanging-fetches.ts'

/**
 * All endpoints at which a client can authenticate with an assertion: our own, and those that forward to oidc-provider.
 */
const doors = [
  ...cibaEndpoints,
  { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'x' } },
  { path: '/oauth/introspect', form: { token: 'x' } },
  { path: '/oauth/revoke', form: { token: 'x' } },
  { path: '/backchannel/clientconfig', form: {} },
]

/** Sends calls in the name of the client, with assertions that another key has signed. */
async function unverifiable({ stage, from }: Scene, count: number, addressOf: (n: number) => string, as = 'slow') {
  const assertion = await assertionOf(stage, as, { key: foreign.privateKey })
  const ways = as === 'slow' ? doors : [{ path: '/backchannel/authinfo', form: { login_hint: 'ana' } }]
  return gather(
    Array.from({ length: count }, (_, n) => {
      const { path, form } = ways[n % ways.length]!
      return from(addressOf(n))(path, { ...form, ...asserted(assertion) })
    }),
  )
}

describe('the key set of a client hangs, and attackers claim to be that client', () => {
  for (const engine of engines) {
    test(`hundreds of calls at every endpoint: few wait, without a place, and other clients are served, on ${engine.name}`, async (t) => {
      const it = await scene(t, {}, { engine })
      const calls = await unverifiable(it, 1000, (n) => `${attackers}.${n % 200}`)
      await calls.allBut(waiting.eachNetworkAndUrl)
      assert.equal(it.server.asked(), 1, 'one fetch, shared')
      assert.deepEqual(calls.statuses(), [503], 'no other answer yet')
      assert.equal(calls.answers[0]!.headers.get('retry-after'), '1')
      await assertOthersAreServed(it)
      assert.ok(calls.answers.length < 1000 - inFlight, 'more wait than there are places')

      it.server.drop()
      await calls.all()
      assert.deepEqual(calls.statuses(), [503], 'nobody can tell whether the assertions are valid')
      assert.equal(it.server.asked(), 1)
    })

    test(`ten thousand calls from as many networks: the limit for one key set holds, on ${engine.name}`, async (t) => {
      const it = await scene(t, {}, { engine })
      const calls = await unverifiable(it, 10_000, manyNetworks)
      await calls.allBut(waiting.eachUrl)
      assert.equal(it.server.asked(), 1)
      await assertOthersAreServed(it)
      it.server.drop()
      await calls.all()
    })

    test(`as a device service: the places of users stay free, on ${engine.name}`, async (t) => {
      const it = await scene(t, {}, { engine })
      const calls = await unverifiable(it, 200, () => `${attackers}.1`, 'slow-service')
      await calls.allBut(waiting.eachNetworkAndUrl)
      await assertOthersAreServed(it)
      assert.equal((await it.stage.get('/', { accept: 'text/html' })).status, 303, 'the page of a user')
      it.server.drop()
      await calls.all()
      assert.deepEqual(calls.statuses(), [503], 'nobody can tell whether the assertions are valid')
    })
  }

  for (const engine of engines) {
    test(`a thousand callers with certificates of their own from as many networks: few wait, and others are served, on ${engine.name}`, async (t) => {
      const server = await openDocumentServer(t)
      const clients = [
        pollClient('selfish', { token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks_uri: server.byName }),
      ]
      const it = await scene(t, { clients }, { engine })
      // Drops the hanging calls before the stage closes, because the stage would wait for them.
      closeAfter(t, server.drop)
      const { x5c } = await certify({ subject: 'CN=self' })
      const calls = gather(
        Array.from({ length: 1000 }, (_, n) => {
          const { path, form } = doors[n % doors.length]!
          return it.from(manyNetworks(n), x5c)(path, { ...form, client_id: 'selfish' })
        }),
      )
      await calls.allBut(waiting.eachUrl)
      assert.equal(server.asked(), 1, 'one fetch, shared')
      await assertOthersAreServed(it)
      server.drop()
      await calls.all()
    })
  }

  test('in a form that only oidc-provider can read: it is refused, and nothing is fetched', async (t) => {
    const it = await scene(t)
    const assertion = await assertionOf(it.stage, 'slow', { key: foreign.privateKey })
    const body = String(new URLSearchParams({ token: 'x', ...asserted(assertion) }))
    const type = 'application/x-www-form-urlencoded'
    for (const [contentType, text] of [
      [type, `${body}&a=1&a=2`],
      [`${type};charset=latin1`, body],
      [`${type.toUpperCase()} ; charset=utf-16`, body],
    ] as const) {
      for (const path of ['/oauth/introspect', '/oauth/revoke']) {
        const headers = { 'content-type': contentType }
        const answer = await fetch(it.stage.url + path, { method: 'POST', headers, body: text })
        assert.equal(answer.status, 400, `${contentType} ${path}`)
      }
    }
    assert.equal(it.server.asked(), 0)
  })

  test('the key set is not fetched for a while after it failed, and used again soon after it works again', async (t) => {
    const it = await scene(t, { limits: { inFlight: 1000 } })
    const once = async (holder: KeyHolder) => {
      const assertion = await assertionOf(it.stage, 'slow', { key: holder.privateKey })
      const { path, form } = cibaEndpoints[1]
      const answer = it.from(`${attackers}.1`)(path, { ...form, ...asserted(assertion) })
      const before = it.server.asked()
      await Promise.race([answer, until(() => it.server.hanging() > 0)])
      it.server.drop()
      return { believed: isBelieved(await answer), fetched: it.server.asked() - before }
    }
    assert.deepEqual(await once(foreign), { believed: false, fetched: 1 })
    for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      it.stage.clock.advance(pause - 1)
      assert.deepEqual(await once(key), { believed: false, fetched: 0 }, `within ${pause} ms`)
      it.stage.clock.advance(1)
      assert.deepEqual(await once(key), { believed: false, fetched: 1 }, `after ${pause} ms`)
    }
    it.server.publish({ keys: [key.publicJwk] })
    it.stage.clock.advance(30_000)
    assert.deepEqual(await once(key), { believed: true, fetched: 1 })
    assert.deepEqual(await once(foreign), { believed: false, fetched: 0 })
  })

  test('meanwhile the client itself is served with the known keys', async (t) => {
    const it = await scene(t)
    it.server.publish({ keys: [key.publicJwk] })
    const own = async (path: string, form: Record<string, string>) => {
      const assertion = await assertionOf(it.stage, 'slow', { key: key.privateKey, header: { kid: 'one' } })
      return it.from('203.0.113.9')(path, { ...form, ...asserted(assertion) })
    }
    const { path, form } = cibaEndpoints[1]
    assert.ok(isBelieved(await own(path, form)))
    it.stage.clock.advance(60_000)
    it.server.hang()
    const assertion = await assertionOf(it.stage, 'slow', { key: foreign.privateKey, header: { kid: 'made-up' } })
    const calls = gather(
      Array.from({ length: 100 }, (_, n) => it.from(`${attackers}.${n}`)(path, { ...form, ...asserted(assertion) })),
    )
    await until(() => it.server.hanging() === 1)
    assert.ok(isBelieved(await own(path, form)))
    assert.equal((await own('/oauth/introspect', { token: 'x' })).status, 200)
    it.server.drop()
    await calls.all()
    assert.ok(isBelieved(await own(path, form)), 'after a failed fetch, the known keys stay usable')
  })
})

describe('an authenticated client makes us fetch what hangs', () => {
  test("keys of a signed request or of an issuer of hints: the call holds neither a place nor the client's share", async (t) => {
    const issuer = 'https://finder.example'
    const hints = await openDocumentServer(t)
    const it = await scene(t, { hints: { tokenIssuers: [{ issuer, jwksUri: hints.byName }] } })
    const kiosk = basic('kiosk', secrets.kiosk)
    const jwt = new SignJWT({ iss: issuer, aud: it.stage.url, sub: 'ana' }).setProtectedHeader({ alg: 'ES256' })
    const login_hint_token = await jwt.sign(foreign.privateKey)
    const calls = gather(
      Array.from({ length: 100 }, (_, n) =>
        n % 2
          ? it.from(`${attackers}.1`)('/backchannel/authorize', { request: login_hint_token }, basic('signing', secret))
          : it.from(`${attackers}.1`)('/backchannel/authorize', { scope: 'openid', login_hint_token }, kiosk),
      ),
    )
    await calls.allBut(2 * waiting.eachNetworkAndUrl)
    assert.deepEqual([it.server.asked(), hints.asked()], [1, 1])
    await assertOthersAreServed(it)
    it.server.drop()
    hints.drop()
    await calls.all()
    assert.deepEqual(calls.statuses(), [503])
  })
})

describe('the provider for sign-ins hangs', () => {
  test('hundreds of sign-ins hold no place, neither at the start nor on the way back', async (t) => {
    const bank = await openDocumentServer(t)
    const issuer = new URL(bank.byName).origin
    const it = await scene(t, { login: { issuer, client_id: 'house', client_secret: newSecret() } })
    const calls = gather(
      Array.from({ length: 300 }, (_, n) => it.visit(`${attackers}.${n % 200}`, '/session/start?to=%2F')),
    )
    await calls.allBut(waitLimits.eachNetwork)
    assert.equal(bank.asked(), 1)
    assert.deepEqual(calls.statuses(), [503])
    await assertOthersAreServed(it)
    bank.publish({
      issuer,
      authorization_endpoint: `${issuer}/authorize`,
      token_endpoint: `${issuer}/token`,
      jwks_uri: `${issuer}/jwks`,
    })
    bank.drop()
    await calls.all()

    const started = await it.visit('203.0.113.9', '/session/start?to=%2F')
    assert.equal(started.status, 303, started.text)
    const cookie = started.headers.get('set-cookie')!.split(';')[0]!
    const state = new URL(started.headers.get('location')!).searchParams.get('state')
    bank.hang()
    const back = gather(
      Array.from({ length: 300 }, (_, n) =>
        it.visit(`${attackers}.${n % 200}`, `/session/callback?code=x&state=${state}`, cookie),
      ),
    )
    await back.allBut(waitLimits.eachNetwork)
    assert.deepEqual(back.statuses(), [503])
    await assertOthersAreServed(it)
    bank.drop()
    await back.all()
  })
})
