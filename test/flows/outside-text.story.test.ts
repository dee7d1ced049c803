/** No input leads to a 5xx. Every text from a caller is checked where it is read, at every address, on both engines. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { SignJWT } from 'jose'
import { newSecret } from '../../src/platform/crypto.ts'
import type { KnownRoute } from '../../src/platform/http/mount.ts'
import { ASSERTION_TYPE, newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { routesOf } from '../support/routes.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { ana, basic, ben, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'

const NUL = '\0'
const lone = '\ud800'

/** Texts that some program cannot store, compare, count or write. */
const inputs: [string, string][] = [
  ['NUL', NUL],
  ['NUL in the middle', `a${NUL}b`],
  ['NUL at the end', `user-ana${NUL}`],
  ['an escape of NUL', '\\u0000'],
  ['NUL, encoded twice', '%00'],
  ['a lone high surrogate', lone],
  ['surrogates the wrong way round', '\udc00\ud800'],
  ['U+FFFF, which is no character', '\uffff'],
  ['a byte order mark', '\ufeffana'],
  ['ten thousand letters', 'a'.repeat(10_000)],
  ['ten thousand random letters, which cannot be compressed', newSecret(7_500)],
  ['ten thousand characters of four bytes', '😀'.repeat(5_000)],
  ['a number larger than any', '1e300'],
  ['one more than a bigint holds', '9223372036854775808'],
  ['a broken number', '0.5'],
  ['a date out of range', '+275760-09-13T00:00:00.001Z'],
  ['a quote', "'"],
  ['a dollar and a number', '$1'],
  ['percent signs', '%%%'],
  ['a line break', 'a\r\nb: c'],
  ['the name of a property that every object has', '__proto__'],
]

const fields = [
  'login_hint',
  'request_id',
  'client_id',
  'token',
  'state',
  'to',
  'status',
  'user_code',
  'endpoint',
  'name',
]

for (const engine of engines) {
  describe(`no input leads to a 5xx, on ${engine.name}`, () => {
    test('each text at each address: in its path, its query, a form, JSON, and headers', async (t) => {
      const { stage, bearer } = await open(t, engine)
      const shots = (await routesOf(stage)).flatMap((route) => inputs.flatMap((input) => shotsAt(route, input, bearer)))
      assert.ok(shots.length > 1000, String(shots.length))
      await shootAll(shots, (shot) => send(stage, shot))
      assertNoneUnchecked(stage)
    })

    test('each text in each claim of a signed hint, request and assertion', async (t) => {
      const { stage, key, client } = await open(t, engine)
      const hint = async (claims: object) =>
        sendRequest(stage, client, { scope: 'openid', login_hint_token: await hintToken(stage, key, claims) })
      const request = async (claims: Record<string, unknown>) => {
        const signed = { key: key.privateKey, header: { kid: 'one' }, claims }
        return sendRequest(stage, 'signs', { request: await signedRequest(stage, 'signs', signed) })
      }
      const assertion = async (claims: object) => {
        const client_assertion = await jwt(stage, key, { iss: 'asserts', sub: 'asserts', ...claims })
        const form = { client_assertion, client_assertion_type: ASSERTION_TYPE }
        const answers = [
          await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana', ...form }),
          await stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token: 'x', ...form }),
          await stage.post('/oauth/introspect', { token: 'x', ...form }),
        ]
        return answers.find(({ status }) => status >= 500) ?? answers[0]!
      }
      const values: [string, unknown][] = [
        ...inputs,
        ['1e300', 1e300],
        ['less than nothing', -1],
        ['a half', 0.5],
        ['an object that cannot become a text', { toString: 1, valueOf: 1 }],
        ['a deep list', deepList(200)],
        ['null', null],
      ]
      const often: [(claims: Record<string, unknown>) => Promise<{ status: number; text: string }>, string[]][] = [
        [hint, ['sub', 'exp', 'iat', 'email']],
        [
          request,
          ['jti', 'exp', 'login_hint', 'binding_message', 'authorization_details', 'acr_values', 'requested_expiry'],
        ],
        [assertion, ['sub', 'jti', 'exp']],
      ]
      const shots = often.flatMap(([ask, claims]) =>
        claims.flatMap((claim) => values.map(([name, value]) => ({ name, ask, claim, value }))),
      )
      await shootAll(shots, ({ ask, claim, value }) => ask({ [claim]: value }))
      assertNoneUnchecked(stage)
    })

    test('each text in the metadata of a client that registers itself, and in credentials', async (t) => {
      const { stage } = await open(t, engine)
      const good = { client_name: 'Shop', redirect_uris: ['https://shop.example/cb'], grant_types: [CIBA] }
      const registered = await register(stage, { ...good, backchannel_token_delivery_mode: 'poll' })
      assert.equal(registered.status, 201, registered.text)
      const names = ['client_name', 'scope', 'contacts', 'jwks', 'redirect_uris', 'client_uri', 'software_id', 'other']
      const endpoint = 'backchannel_client_notification_endpoint'
      const shots = [...names, endpoint].flatMap((field) => inputs.map(([name, value]) => ({ field, name, value })))
      await shootAll(shots, ({ field, value }) =>
        register(stage, {
          ...good,
          backchannel_token_delivery_mode: 'ping',
          [endpoint]: 'https://shop.example/ping',
          [field]:
            field === 'contacts' || field === 'redirect_uris'
              ? [value]
              : field === 'jwks'
                ? { keys: [{ kid: value }] }
                : value,
        }),
      )
      const headers = inputs.map(([name, value]) => ({ name, value }))
      await shootAll(headers, async ({ value }) => {
        const credentials = `Basic ${Buffer.from(`${value}:x`).toString('base64')}`
        const encoded = `Basic ${Buffer.from(`${encode(value)}:${encode(value)}`).toString('base64')}`
        const answers = [
          await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, credentials),
          await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, encoded),
          await stage.post('/oauth/introspect', { token: 'x' }, encoded),
          await stage.post('/oauth/revoke', { token: 'x' }, credentials),
          await stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token: 'x' }, encoded),
        ]
        return answers.find(({ status }) => status >= 500) ?? answers[0]!
      })
      assertNoneUnchecked(stage)
    })
  })
}

async function open(t: TestContext, engine: (typeof engines)[number]) {
  const key = await newKey('one')
  const jwks = { keys: [key.publicJwk] }
  const secret = newSecret()
  const alg = 'backchannel_authentication_request_signing_alg'
  const stage = await openStage(t, {
    engine,
    parts: { workers: false },
    config: {
      clients: [
        pollClient('plain', { client_secret: secret }),
        pollClient('signs', { client_secret: secret, jwks, [alg]: 'ES256' }),
        pollClient('asserts', { token_endpoint_auth_method: 'private_key_jwt', jwks }),
      ],
      users: [ana, ben],
      hints: { tokenIssuers: [{ issuer: 'https://finder.example', jwks }] },
      registration: { mode: 'open', perHour: 100_000 },
      limits: { signIn: { perName: 1000, perAddress: 100_000, pause: 1 } },
      metrics: true,
    },
  })
  secretOf.set(stage, secret)
  return { stage, key, client: 'plain', bearer: await bearerOf(stage) }
}

const secretOf = new WeakMap<Stage, string>()

function sendRequest(stage: Stage, client: string, form: Record<string, string>) {
  return stage.post('/backchannel/authorize', form, basic(client, secretOf.get(stage)!))
}

type Key = Awaited<ReturnType<typeof newKey>>

/** Claims are sent unchanged, whatever their type. */
function jwt(stage: Stage, key: Key, claims: object): Promise<string> {
  const now = Math.floor(stage.clock.now() / 1000)
  const usual = { aud: stage.url, iat: now, exp: now + 60, jti: newSecret(12) }
  return new SignJWT({ ...usual, ...claims }).setProtectedHeader({ alg: 'ES256', kid: 'one' }).sign(key.privateKey)
}

const hintToken = (stage: Stage, key: Key, claims: object) =>
  jwt(stage, key, { iss: 'https://finder.example', sub: 'user-ana', ...claims })

async function register(stage: Stage, metadata: object) {
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(`${stage.url}/oauth/register`, { method: 'POST', headers, body: JSON.stringify(metadata) })
  return { status: answer.status, text: await answer.text() }
}

interface Shot {
  name: string
  method: string
  path: string
  headers?: Record<string, string>
  body?: string
}

/** Replaces what UTF-8 cannot encode (a lone surrogate) with the bytes that would stand for it. */
function encode(text: string): string {
  return text.isWellFormed() ? encodeURIComponent(text) : '%ed%a0%80'
}

const clientsAddresses = /^\/(backchannel\/(authorize|clientconfig)|oauth\/(token|introspect|revoke))$/

/**
 * Returns calls that send the input to a route: in the path with each method, and in the query or the body with the
 * first method.
 */
function shotsAt({ method, url }: KnownRoute, [name, value]: [string, string], bearer: string): Shot[] {
  // Event streams do not end, so they are left out.
  const methods = ['POST', 'PUT', 'DELETE', 'GET'].filter((each) => [method].flat().includes(each as never))
  if (methods.length === 0 || url.endsWith('/events')) return []
  const auth = { authorization: clientsAddresses.test(url) ? credentials.kiosk : bearer }
  const json = { ...auth, 'content-type': 'application/json' }
  const form = { ...auth, 'content-type': 'application/x-www-form-urlencoded' }
  const at = (text: string) => url.replaceAll(/:\w+|\*/g, text.slice(0, 3_000))
  const inPath = at('x') === url ? [] : methods.map((each) => ({ method: each, path: at(encode(value)) }))
  const shots: Shot[] = inPath.map((shot) => ({ ...shot, name: `${name} in the path`, headers: auth }))
  if (methods[0] === 'GET' || methods[0] === 'DELETE') {
    const query = fields.map((field) => `${field}=${encode(value).slice(0, 700)}`).join('&')
    return [...shots, { name: `${name} in the query`, method: methods[0], path: `${at('x')}?${query}`, headers: auth }]
  }
  const field = fields[(url.length + name.length) % fields.length]!
  const bodied =
    (url.length + name.length) % 2 === 0
      ? { name: `${name} as ${field}`, headers: form, body: `${field}=${encode(value)}` }
      : { name: `${name} in JSON`, headers: json, body: JSON.stringify({ [field]: value, keys: [{ [value]: value }] }) }
  return [...shots, { ...bodied, method: methods[0]!, path: at('x') }]
}

async function send(stage: Stage, { method, path, headers = {}, body }: Shot) {
  const answer = await fetch(stage.url + path, {
    method,
    headers,
    redirect: 'manual',
    ...(body !== undefined && { body }),
  })
  return { status: answer.status, text: await answer.text() }
}

/** Sends several calls at once, so that the test takes only a few seconds. */
async function shootAll<One extends { name: string }>(
  shots: One[],
  shoot: (shot: One) => Promise<{ status: number; text: string }>,
): Promise<void> {
  const faults: string[] = []
  const left = [...shots]
  const lane = async () => {
    for (let shot = left.pop(); shot !== undefined; shot = left.pop()) {
      const { status, text } = await shoot(shot)
      const { body: _, headers: __, value: ___, ask: ____, ...what } = shot as Record<string, unknown>
      if (status >= 500) faults.push(`${status} for ${JSON.stringify(what).slice(0, 200)}: ${text.slice(0, 100)}`)
    }
  }
  await Promise.all(Array.from({ length: 8 }, lane))
  assert.deepEqual(faults.slice(0, 20), [])
}

/** Asserts that texts are checked before they reach the database: the database has refused no text. */
function assertNoneUnchecked({ logLines }: Stage): void {
  assert.deepEqual(
    logLines.filter((line) => /unchecked|"level":50/.test(line)).map((line) => line.slice(0, 400)),
    [],
  )
}

function deepList(levels: number): unknown {
  return levels === 0 ? [] : [deepList(levels - 1)]
}
