/**
 * Pairwise subjects: clients of one sector know a user by the same subject, and no client gets into another's sector.
 */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { asserted, assertionOf, newKey } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { basic, CIBA } from '../support/stage.ts'
import { open, opened, poll } from './registration-calls.ts'

describe('pairwise subjects (PW-1, RG-8 – RG-12)', () => {
  /** Key sets and lists of two parties, each on its own host. */
  async function parties(t: TestContext, keys: unknown[]) {
    const pages = new Map<string, unknown>([['/jwks', { keys }]])
    let fetched = 0
    const server = createServer((request, response) => {
      fetched++
      const page = pages.get(request.url!)
      response.writeHead(page === undefined ? 404 : 200).end(JSON.stringify(page))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.after(() => server.close())
    const { port } = server.address() as AddressInfo
    return { one: `http://127.0.0.1:${port}`, two: `http://localhost:${port}`, pages, fetched: () => fetched }
  }

  for (const engine of engines) {
    test(`each sector has its own lasting subject for Ana, and may use it in a hint, on ${engine.name}`, async (t) => {
      const key = await newKey('one')
      const { one, two } = await parties(t, [key.publicJwk])
      const { stage, register } = await opened(t, open, engine)
      const client = async (jwks_uri: string) => {
        const { body, text } = await register({
          ...poll,
          subject_type: 'pairwise',
          jwks_uri,
          token_endpoint_auth_method: 'private_key_jwt',
        })
        assert.ok(body.client_id, text)
        return String(body.client_id)
      }
      const proof = async (id: string) => asserted(await assertionOf(stage, id, { key: key.privateKey }))
      const known = async (id: string, hint: Record<string, string> = { login_hint: 'ana' }) => {
        stage.clock.advance(1)
        const asked = { scope: 'openid offline_access', ...hint, ...(await proof(id)) }
        const { body: response, text } = await stage.post('/backchannel/authorize', asked)
        assert.ok(response.auth_req_id, text)
        await stage.decide(await stage.newestRequest(), 'approved')
        const form = { grant_type: CIBA, auth_req_id: String(response.auth_req_id), ...(await proof(id)) }
        const { body: tokens } = await stage.post('/oauth/token', form)
        const claims = JSON.parse(Buffer.from(String(tokens.id_token).split('.')[1]!, 'base64url').toString())
        const userinfo = await stage.get('/oauth/userinfo', { authorization: `Bearer ${tokens.access_token}` })
        assert.equal(userinfo.body.sub, claims.sub)
        return { sub: String(claims.sub), idToken: String(tokens.id_token), refreshToken: String(tokens.refresh_token) }
      }
      const [first, second, third] = [
        await client(`${one}/jwks`),
        await client(`${one}/jwks`),
        await client(`${two}/jwks`),
      ]
      const here = await known(first)
      assert.notEqual(here.sub, 'user-ana')
      assert.match(here.sub, /^[A-Za-z0-9_-]{43}$/)
      assert.equal((await known(second)).sub, here.sub, 'the same sector')
      assert.notEqual((await known(third)).sub, here.sub, 'another sector')
      await stage.restart()
      assert.equal(
        (await known(first, { id_token_hint: here.idToken })).sub,
        here.sub,
        'and the hint leads back to her',
      )

      const form = { grant_type: 'refresh_token', refresh_token: here.refreshToken, ...(await proof(first)) }
      const { body: fresh } = await stage.post('/oauth/token', form)
      assert.equal(JSON.parse(Buffer.from(String(fresh.id_token).split('.')[1]!, 'base64url').toString()).sub, here.sub)
    })
  }

  test('sector_identifier_uri must list what the client uses, and is fetched with limits (RG-9, DR-10)', async (t) => {
    const key = await newKey('one')
    const { one, two, pages } = await parties(t, [key.publicJwk])
    const { stage, register } = await opened(t)
    const metadata = {
      ...poll,
      subject_type: 'pairwise',
      jwks_uri: `${one}/jwks`,
      sector_identifier_uri: `${two}/sector`,
      backchannel_authentication_request_signing_alg: 'ES256',
    }
    for (const list of [undefined, {}, 'x', [], [`${two}/jwks`]]) {
      if (list !== undefined) pages.set('/sector', list)
      const { status, body } = await register(metadata)
      assert.deepEqual([status, body.error], [400, 'invalid_client_metadata'], JSON.stringify(list))
      assert.match(String(body.error_description), /^sector_identifier_uri/)
      // An address that failed is not fetched again for a while.
      stage.clock.advance(30_000)
    }
    pages.set('/sector', ['https://another.example/cb', `${one}/jwks`])
    const { jwks_uri: _, ...unlisted } = { ...metadata, jwks: { keys: [key.publicJwk] } }
    assert.equal((await register(unlisted)).status, 400, 'with its own keys only, it has no sector (RG-8)')
    assert.equal((await register(metadata)).status, 201)
    assert.equal((await register({ ...metadata, sector_identifier_uri: 'http://10.0.0.1/sector' })).status, 400)
  })

  test('nothing is fetched for a network that may register no more clients', async (t) => {
    const { one, pages, fetched } = await parties(t, [])
    pages.set('/sector', [])
    const { register } = await opened(t, { registration: { mode: 'open', perHour: 1 } })
    const metadata = { redirect_uris: ['https://a.example/cb'], sector_identifier_uri: `${one}/sector` }
    assert.equal((await register(metadata)).status, 400)
    assert.equal((await register(poll)).status, 201)
    assert.equal((await register(metadata)).status, 429)
    assert.equal(fetched(), 1)
  })

  test('a client that was accepted into a sector cannot have its tokens sent elsewhere (RG-9)', async (t) => {
    const { two, pages } = await parties(t, [])
    const { stage, register } = await opened(t)
    const listed = `${two}/told`
    pages.set('/sector', [listed])
    const push = { grant_types: [], backchannel_token_delivery_mode: 'push', subject_type: 'pairwise' }
    const settle = async (body: Record<string, unknown>, change: Record<string, string>) =>
      stage.post('/backchannel/clientconfig', change, basic(String(body.client_id), String(body.client_secret)))
    const endpoint = 'backchannel_client_notification_endpoint'
    for (const sector of [{ sector_identifier_uri: `${two}/sector` }, {}]) {
      const { body, text } = await register({ ...push, ...sector, [endpoint]: listed })
      assert.ok(body.client_id, text)
      const moved = await settle(body, { [endpoint]: 'http://127.0.0.1:9/told' })
      assert.deepEqual([moved.status, moved.body.error], [400, 'invalid_client_metadata'], moved.text)
      assert.equal((await settle(body, { [endpoint]: listed })).status, 200, 'the client is unchanged')
    }
  })
})

describe("a client does not get into another party's sector (PW-1, PW-2)", () => {
  const shop = 'https://shop.example'
  const pushed = {
    grant_types: [],
    backchannel_token_delivery_mode: 'push',
    subject_type: 'pairwise',
    backchannel_client_notification_endpoint: 'https://mine.example/n',
  }

  test('by redirects to another host than that of its keys or its endpoint', async (t) => {
    const { register } = await opened(t)
    const signsIn = { redirect_uris: ['https://mine.example/cb'], response_types: ['code'] }
    const rings = {
      ...pushed,
      backchannel_client_notification_endpoint: `${shop}/n`,
      grant_types: ['authorization_code'],
    }
    const { status, body } = await register({ ...rings, ...signsIn })
    assert.equal(status, 400)
    assert.match(String(body.error_description), /redirect_uris must all have the host of the sector/)
    const own = { ...rings, backchannel_client_notification_endpoint: 'https://mine.example/n' }
    assert.equal((await register({ ...own, ...signsIn })).status, 201)
  })

  test('by changing its registration while its requests are open', async (t) => {
    const { stage, register, send } = await opened(t)
    const { body } = await register(pushed)
    const credentials = basic(String(body.client_id), String(body.client_secret))
    for (const change of [
      { backchannel_client_notification_endpoint: `${shop}/n` },
      { backchannel_token_delivery_mode: 'ping' },
    ]) {
      const settings = await stage.post('/backchannel/clientconfig', change as Record<string, string>, credentials)
      assert.deepEqual([settings.status, settings.body.error], [400, 'invalid_client_metadata'])
    }
    const kept = { backchannel_client_notification_endpoint: 'https://mine.example/other' }
    assert.equal((await stage.post('/backchannel/clientconfig', kept, credentials)).status, 200)

    const replace = (said: object) =>
      send(
        'PUT',
        String(body.registration_client_uri),
        { client_id: body.client_id, ...said },
        String(body.registration_access_token),
      )
    const polls = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll', jwks_uri: `${shop}/keys` }
    for (const said of [
      { ...pushed, backchannel_client_notification_endpoint: `${shop}/n` },
      { ...polls, subject_type: 'pairwise', backchannel_authentication_request_signing_alg: 'ES256' },
    ]) {
      const { status, text } = await replace(said)
      assert.equal(status, 400, text)
      assert.match(text, /sector of a client with pairwise subjects cannot change/)
    }
    assert.equal((await replace(pushed)).status, 200)
  })
})
