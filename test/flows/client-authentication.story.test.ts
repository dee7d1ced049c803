/**
 * Client authentication: only the registered method is accepted, and both CIBA endpoints behave in the same way (MD-3,
 * EP-4, EP-5, TK-1).
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import * as openid from 'openid-client'
import { newSecret } from '../../src/platform/crypto.ts'
import {
  asserted,
  assertionOf,
  cibaEndpoints,
  isBelieved,
  type KeyHolder,
  newKey,
  pollClient,
} from '../support/assertions.ts'
import { collect, discover } from '../support/foreign-client.ts'
import { basic, CIBA, credentials, openStage, type Stage, secrets } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'

const hardSecret = 'a:b+c%d e&f=g~"/'
const secret = newSecret()
let key: KeyHolder
let stage: Stage
let close = () => {}

before(async () => {
  key = await newKey('one')
  const t = { after: (fn: () => void) => (close = fn) } as never
  stage = await openStage(t, {
    config: {
      clients: [
        pollClient('hard:id%', { client_secret: hardSecret }),
        pollClient('post', { client_secret: secret, token_endpoint_auth_method: 'client_secret_post' }),
        pollClient('hmac', { client_secret: secret, token_endpoint_auth_method: 'client_secret_jwt' }),
        pollClient('key', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [key.publicJwk] } }),
      ],
    },
  })
})
after(() => close())

describe('every method works for its client, with openid-client', () => {
  const methods: [string, () => openid.ClientAuth][] = [
    ['hard:id%', () => openid.ClientSecretBasic(hardSecret)],
    ['post', () => openid.ClientSecretPost(secret)],
    ['hmac', () => openid.ClientSecretJwt(secret)],
    ['key', () => openid.PrivateKeyJwt({ key: key.privateKey, kid: 'one' })],
  ]
  for (const [id, method] of methods) {
    test(`${id}: sends a request and collects its tokens`, async () => {
      const client = await discover(stage, id, method())
      stage.clock.advance(1) // so that the request of this client is the newest
      const response = await openid.initiateBackchannelAuthentication(client, { scope: 'openid', login_hint: 'ana' })
      await stage.decide(await stage.newestRequest(), 'approved')
      assert.equal((await collect(client, response)).claims()!.aud, id)
    })
  }

  test('Basic is read whichever characters the client percent-encodes (CA-3)', async () => {
    // `+` is a space in a form, and `%` starts an escape; other characters may stand for themselves.
    const loose = `hard%3Aid%25:${hardSecret.replaceAll('%', '%25').replaceAll('+', '%2B').replaceAll(' ', '+')}`
    const answer = await stage.post(
      '/backchannel/authorize',
      { scope: 'openid', login_hint: 'ana' },
      `basic  ${Buffer.from(loose).toString('base64')}`,
    )
    assert.equal(answer.status, 200)
  })
})

type Attempt = [name: string, form: Record<string, string>, authorization?: string]

const encoded = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

describe('failed client authentication: 401 invalid_client at both endpoints, and nothing changes (M9, M27)', () => {
  const attempts: Attempt[] = [
    ['no credentials', {}],
    ['only a client_id', { client_id: 'kiosk' }],
    ['a public client', { client_id: 'phone-app' }],
    ['a public client with an empty secret', { client_id: 'phone-app' }, encoded('phone-app:')],
    ['an unknown client', {}, basic('nobody', secrets.kiosk)],
    ['a wrong secret', {}, basic('kiosk', secrets.till)],
    ['an empty secret', {}, encoded('kiosk:')],
    ['a secret with something after it', {}, basic('kiosk', `${secrets.kiosk} `)],
    ['the hash of the secret as it is stored', {}, 'keyed hash'],
    ['no colon', {}, encoded('kiosk')],
    ['bad percent-encoding', {}, encoded('kiosk:%zz')],
    ['not base64', {}, 'Basic !!!'],
    ['another scheme', {}, `Bearer ${secrets.kiosk}`],
    ['an empty Authorization header', {}, ' '],
    ['post, though registered for basic (EP-5)', { client_id: 'kiosk', client_secret: secrets.kiosk }],
    ['basic, though registered for post (EP-5)', {}, basic('post', secret)],
    ['basic, though registered for client_secret_jwt (EP-5)', {}, basic('hmac', secret)],
    ['post, though registered for client_secret_jwt (EP-5)', { client_id: 'hmac', client_secret: secret }],
    ['a secret, though registered for private_key_jwt (EP-5)', { client_id: 'key', client_secret: secret }],
    ['a secret without a client_id', { client_secret: secrets.kiosk }],
    ['another client_id in the body (RQ-10)', { client_id: 'till' }, credentials.kiosk],
    ['an assertion without its type', { client_assertion: 'x.y.z' }],
    ['an assertion of an unknown type', { client_assertion: 'x.y.z', client_assertion_type: 'saml' }],
    ['an assertion type without an assertion', { client_assertion_type: asserted('').client_assertion_type }],
    ['an assertion that is not a JWT', asserted('not-a-jwt')],
    ['an assertion that is too long', asserted('x'.repeat(20_000))],
  ]
  for (const [name, form, said] of attempts) {
    test(name, async () => {
      const authorization = said === 'keyed hash' ? basic('kiosk', await keptHash('kiosk')) : said
      const before = await countRows(stage)
      for (const endpoint of cibaEndpoints) {
        const answer = await stage.post(endpoint.path, { ...endpoint.form, ...form }, authorization)
        assert.deepEqual([answer.status, answer.body.error], [401, 'invalid_client'], endpoint.path)
        // Only callers that used the `Authorization` header get the challenge (AE-3).
        const challenge = answer.headers.get('www-authenticate')
        if (authorization !== undefined) assert.match(String(challenge), /^Basic realm="doorbell"/)
        else assert.equal(challenge, null)
        assert.equal(answer.headers.get('cache-control'), 'no-store')
        assert.deepEqual(Object.keys(answer.body).sort(), ['error', 'error_description'])
        for (const value of Object.values(secrets)) assert.ok(!answer.text.includes(value))
      }
      assert.deepEqual(await countRows(stage), before)
    })
  }

  test('a valid auth_req_id does not help a caller that fails, and stays usable (TE-2, M24, TE-9)', async () => {
    stage.clock.advance(1)
    const { auth_req_id } = (await stage.ring('kiosk')).body
    await stage.decide(await stage.newestRequest(), 'approved')
    const form = { grant_type: CIBA, auth_req_id: String(auth_req_id) }
    const attempts: [Record<string, string>, string?][] = [
      [{}],
      [{ client_id: 'kiosk' }],
      [{}, basic('kiosk', 'wrong')],
      [{}, basic('nobody', 'wrong')],
    ]
    const [before] = await rowsOf(stage, 'select * from backchannel_auth_requests order by id desc limit 1')
    for (const [more, authorization] of attempts) {
      const { status, body } = await stage.post('/oauth/token', { ...form, ...more }, authorization)
      assert.deepEqual([status, body.error], [401, 'invalid_client'])
    }
    const [afterwards] = await rowsOf(stage, 'select * from backchannel_auth_requests order by id desc limit 1')
    assert.deepEqual(afterwards, before)
    assert.equal((await stage.poll('kiosk', auth_req_id)).status, 200)
  })
})

describe('two methods at once are refused before either is checked (CA-2)', () => {
  const ways: [string, () => Promise<Attempt>][] = [
    ['basic and post', async () => ['', { client_id: 'kiosk', client_secret: secrets.kiosk }, credentials.kiosk]],
    ['basic and a post without a secret', async () => ['', { client_secret: 'x' }, credentials.kiosk]],
    [
      'basic and an assertion',
      async () => ['', asserted(await assertionOf(stage, 'key', { key: key.privateKey })), credentials.kiosk],
    ],
    [
      'post and an assertion',
      async () => {
        const assertion = asserted(await assertionOf(stage, 'key', { key: key.privateKey }))
        return ['', { ...assertion, client_id: 'post', client_secret: secret }]
      },
    ],
    ['basic and an unreadable assertion', async () => ['', asserted('x'), credentials.kiosk]],
  ]
  for (const [name, way] of ways) {
    test(name, async () => {
      for (const endpoint of cibaEndpoints) {
        const [, form, authorization] = await way()
        const answer = await stage.post(endpoint.path, { ...endpoint.form, ...form }, authorization)
        assert.deepEqual([answer.status, answer.body.error], [400, 'invalid_request'], endpoint.path)
      }
    })
  }
})

describe('the client id may be sent twice', () => {
  test('client_id in the body is accepted if it is the same (RQ-10)', async () => {
    for (const { path, form } of cibaEndpoints) {
      assert.ok(isBelieved(await stage.post(path, { ...form, client_id: 'kiosk' }, credentials.kiosk)))
    }
  })

  test('a removed client collects nothing (SM-5)', async (t) => {
    const own = await openStage(t)
    const { auth_req_id } = (await own.ring('kiosk')).body
    await own.decide(await own.newestRequest(), 'approved')
    await rowsOf(own, "delete from clients where id = 'kiosk' returning id")
    assert.deepEqual((await own.poll('kiosk', auth_req_id)).status, 401)
  })
})

async function keptHash(id: string): Promise<string> {
  const [row] = await rowsOf(stage, 'select secret_hash from clients where id = $1', [id])
  return String(row!.secret_hash)
}
