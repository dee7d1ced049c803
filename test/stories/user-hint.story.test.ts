/** About whom: what a client may say, and what it hears if that leads to nobody (VL-4, VL-5, AE-4, SC-3 to SC-8). */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { base64url, type CryptoKey, importJWK, SignJWT } from 'jose'
import { Refusal } from '../../src/refusal.ts'
import { createVault } from '../../src/secret.ts'
import type { UserHint } from '../../src/user-hint/user.ts'
import { newKey } from '../cast/assertions.ts'
import { ana, ben, openStage, type Stage } from '../cast/stage.ts'
import { rowsOf } from '../cast/tables.ts'

const disabled = { id: 'user-dora', username: 'dora', email: 'dora@example.com', disabled: true }

let stage: Stage
let close = () => {}
let ours: { key: CryptoKey; kid: string }

before(async () => {
  stage = await openStage({ after: (fn: () => void) => (close = fn) } as never, {
    config: { users: [ana, ben, disabled] },
  })
  ours = await ourSigningKey(stage)
})
after(() => close())

describe('a login_hint leads to its user, whichever name it is (M26)', () => {
  for (const [hint, user] of [
    ['user-ana', ana],
    ['ana', ana],
    ['ana@example.com', ana],
    ['ANA@Example.COM', ana],
    ['+34600000001', ana],
    ['user-ben', ben],
    ['Ben@example.com', ben],
  ] as const) {
    test(hint, async () => {
      assert.equal((await stage.ring('kiosk', { login_hint: hint })).status, 200)
      const newest = await stage.doorbell.requests.list(user.id, { only: 'open' })
      assert.equal(newest[0]!.createdAt, stage.clock.now())
    })
  }

  for (const hint of [
    'zoe',
    'an',
    'ana ',
    'dora',
    'DORA@example.com',
    "ana' or '1'='1",
    '__proto__',
    'constructor',
    '%',
  ]) {
    test(`"${hint}" leads to nobody who can be asked: unknown_user_id`, async () => {
      assertRefused(await stage.ring('kiosk', { login_hint: hint }), 'unknown_user_id')
    })
  }
})

describe('an id_token_hint', () => {
  const day = 24 * 3600
  const hinted = (id_token_hint: string, as: 'kiosk' | 'northbank' = 'kiosk') =>
    stage.ring(as, { login_hint: '', id_token_hint })

  test('that this client was given leads to its user, even long after its exp (SC-3, SC-8)', async () => {
    const { auth_req_id } = (await stage.ring('kiosk')).body
    await stage.decide(await stage.newestRequest(), 'approved')
    const idToken = String((await stage.poll('kiosk', auth_req_id)).body.id_token)
    assert.equal((await hinted(idToken)).status, 200)
    assert.equal((await hinted(await idTokenOf({ iat: ago(100 * day), exp: ago(99 * day) }))).status, 200)
    assert.equal((await hinted(await idTokenOf({ iat: ago(180 * day - 60) }))).status, 200)
    assert.equal((await hinted(await idTokenOf({}, { typ: 'JWT' }))).status, 200)
    assertRefused(await hinted(idToken, 'northbank'), 'invalid_request')
  })

  const wrong: [string, () => Promise<string> | string][] = [
    ['too old', () => idTokenOf({ iat: ago(180 * day + 60) })],
    ['for another client (SC-5)', () => idTokenOf({ aud: 'northbank' })],
    ['of another issuer (SC-4)', () => idTokenOf({ iss: 'https://elsewhere.example' })],
    ['without sub', () => idTokenOf({ sub: undefined })],
    ['without iat', () => idTokenOf({ iat: undefined })],
    ['that is an access token by its type', () => idTokenOf({}, { typ: 'at+jwt' })],
    ['that is a logout token by its type', () => idTokenOf({}, { typ: 'logout+jwt' })],
    ['with alg none', () => `${base64url.encode('{"alg":"none"}')}.${base64url.encode(JSON.stringify(claimsOf({})))}.`],
    ['signed by somebody else (SC-6)', foreignlySigned],
    ['with HS256, keyed with our public key', hmacSigned],
    ['that is no JWT', () => 'ana'],
  ]
  for (const [name, make] of wrong) {
    test(`${name}: invalid_request`, async () => assertRefused(await hinted(await make()), 'invalid_request'))
  }

  test('about a user who is gone or disabled: unknown_user_id', async () => {
    for (const sub of ['nobody', 'user-dora', '__proto__']) {
      assertRefused(await hinted(await idTokenOf({ sub })), 'unknown_user_id')
    }
  })
})

describe("a login_hint_token, and an application's own users", () => {
  test('means nothing to the built-in directory', async () => {
    assertRefused(await stage.ring('kiosk', { login_hint: '', login_hint_token: 'ana' }), 'unknown_user_id')
  })

  test('goes to the hook, which answers with a user, with nobody, or with a refusal of its own', async (t) => {
    const heard: UserHint[] = []
    const own = await openStage(t, {
      config: {
        users: {
          find: async (id) => (id === 'user-ana' ? ana : null),
          async findByHint(hint) {
            heard.push(hint)
            if (hint.value === 'expired') throw new Refusal('expired_login_hint_token', 'the token has expired')
            if (hint.value === 'broken') throw new Error('the directory is down: ldap://secret')
            return hint.value === 'good' ? ana : null
          },
        },
      },
    })
    const ring = (login_hint_token: string) => own.ring('kiosk', { login_hint: '', login_hint_token })
    assert.equal((await ring('good')).status, 200)
    assert.deepEqual(heard, [{ kind: 'login_hint_token', value: 'good' }])
    assertRefused(await ring('nobody'), 'unknown_user_id')
    assertRefused(await ring('expired'), 'expired_login_hint_token')
    const broken = await ring('broken')
    assert.deepEqual([broken.status, broken.body.error], [500, 'server_error'])
    assert.ok(!broken.text.includes('ldap'), 'what went wrong inside stays inside')
  })
})

describe('M15: a user is looked at again at every step', () => {
  for (const as of ['kiosk', 'till'] as const) {
    test(`disabled after the decision, ${as} gets no tokens`, async (t) => {
      let locked = false
      const find = async () => ({ ...ana, disabled: locked })
      const own = await openStage(t, { config: { users: { find, findByHint: find } } })
      const { auth_req_id } = (await own.ring(as)).body
      const requestId = await own.newestRequest()
      locked = true
      assert.equal((await own.decide(requestId, 'approved')).status, 400)
      locked = false
      assert.equal((await own.decide(requestId, 'approved')).status, 200)
      locked = true
      if (as === 'kiosk') assert.equal((await own.poll(as, auth_req_id)).body.error, 'access_denied')
      await own.doorbell.idle()
      assert.deepEqual(await rowsOf(own, 'select * from oidc_models'), [])
    })
  }
})

function assertRefused(
  { status, body, text }: { status: number; body: Record<string, unknown>; text: string },
  error: string,
) {
  assert.deepEqual([status, body.error], [400, error], text)
}

const ago = (seconds: number) => Math.floor(stage.clock.now() / 1000) - seconds

function claimsOf(claims: Record<string, unknown>) {
  return { iss: stage.url, aud: 'kiosk', sub: 'user-ana', iat: ago(10), exp: ago(-3600), ...claims }
}

function idTokenOf(claims: Record<string, unknown>, header: Record<string, string> = {}): Promise<string> {
  return new SignJWT(claimsOf(claims)).setProtectedHeader({ alg: 'ES256', kid: ours.kid, ...header }).sign(ours.key)
}

async function foreignlySigned(): Promise<string> {
  const { privateKey } = await newKey(ours.kid)
  return new SignJWT(claimsOf({})).setProtectedHeader({ alg: 'ES256', kid: ours.kid }).sign(privateKey)
}

async function hmacSigned(): Promise<string> {
  const jwks = await stage.get('/oauth/jwks')
  return new SignJWT(claimsOf({})).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(jwks.text))
}

/** What only the server has: the test knows the configured secret, and takes the key from the table. */
async function ourSigningKey(of: Stage) {
  const [row] = await rowsOf(of, "select * from signing_keys where algorithm = 'ES256'")
  const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
  const jwk = JSON.parse(vault.open(String(row!.private_sealed), `signing_keys/${row!.kid}`))
  return { key: (await importJWK(jwk, 'ES256')) as CryptoKey, kid: String(row!.kid) }
}
