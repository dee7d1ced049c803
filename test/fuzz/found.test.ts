/** One test for each fault that `npm run fuzz` has found. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { createHoles, type Holes, holeFor } from './holes.ts'
import { type House, openHouse } from './house.ts'
import { bytesOf, type Shot } from './shot.ts'
import { type Heard, openWire, type Wire } from './wire.ts'

let house: House
let holes: Holes
let wire: Wire

before(async () => {
  house = await openHouse()
  holes = createHoles(house)
  wire = openWire(house.port, 5000)
})
after(async () => {
  wire.close()
  await house.close()
})

function send(method: string, target: string, headers: Record<string, string> = {}, body = ''): Promise<Heard> {
  const shot: Shot = {
    method,
    target,
    version: 'HTTP/1.1',
    headers: Object.entries({ host: 'localhost', ...headers }),
    body,
    framing: body === '' ? 'none' : 'length',
  }
  return wire.say(bytesOf(shot, holes.fill), { withoutBody: method === 'HEAD', alone: true })
}

describe('found by fuzzing', () => {
  test('a DPoP proof with an absolute URI as request target is not answered with 500', async () => {
    const claims = { jti: '$new', htm: 'GET', htu: '{{issuer}}/oauth/userinfo', iat: '$now' }
    const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: '$proofJwk' }
    const dpop = holeFor({ key: 'proof', header, claims })
    const heard = await send('GET', 'http://t/oauth/userinfo', { dpop })
    // Without a token the proof is not validated.
    assert.equal(heard.status, 401)
  })

  test('an invalid address from a trusted proxy is not written to the log', async () => {
    const pasted = 'pasted-secret-pasted-secret'
    house.takeLog()
    for (const forwarded of [pasted, `${pasted}, 10.0.0.1`, `10.0.0.1, ${pasted}`]) {
      const heard = await send(
        'POST',
        '/backchannel/authorize',
        {
          'x-forwarded-for': forwarded,
          'content-type': 'application/x-www-form-urlencoded',
          authorization: '{{basic:nobody}}',
        },
        'scope=openid',
      )
      assert.equal(heard.status, 401)
    }
    const log = house.takeLog().join('')
    assert.match(log, /client\.refused/)
    assert.ok(!log.includes(pasted))
  })

  test('metadata and keys that cannot be converted to a string are not answered with 500', async () => {
    const spiteful = { toString: 1, valueOf: 2 }
    const json = { 'content-type': 'application/json' }
    for (const metadata of [
      { token_endpoint_auth_method: spiteful },
      { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [{ kty: spiteful }] } },
    ]) {
      const heard = await send('POST', '/oauth/register', json, JSON.stringify(metadata))
      assert.equal(heard.status, 400, heard.body)
      assert.equal((JSON.parse(heard.body) as { error: string }).error, 'invalid_client_metadata')
    }

    const made = await send('POST', '/oauth/register', json, '{"redirect_uris":["https://a.invalid/cb"]}')
    const { client_id, registration_access_token } = JSON.parse(made.body) as Record<string, string>
    const change = JSON.stringify({ client_id, redirect_uris: ['https://a.invalid/cb'], client_secret: spiteful })
    const authorization = `Bearer ${registration_access_token}`
    const changed = await send('PUT', `/oauth/register/${client_id}`, { ...json, authorization }, change)
    assert.equal(changed.status, 400, changed.body)

    const proof = {
      key: 'proof',
      header: { typ: 'dpop+jwt', alg: 'ES256', jwk: { kty: spiteful } },
      claims: {},
    } as const
    const form = { 'content-type': 'application/x-www-form-urlencoded', authorization: '{{basic:wallet}}' }
    const body = 'grant_type=refresh_token&refresh_token=x'
    const heard = await send('POST', '/oauth/token', { ...form, dpop: holeFor(proof) }, body)
    assert.equal((JSON.parse(heard.body) as { error: string }).error, 'invalid_dpop_proof')
  })

  test('a notification with thousands of nested JSON arrays is recorded and can be shown', async () => {
    const json = { 'content-type': 'application/json' }
    const deep = `${'['.repeat(15_000)}${']'.repeat(15_000)}`
    assert.equal((await send('POST', '/dev/callback/deep', json, deep)).status, 204)
    const shown = await send('GET', '/dev/callback/deep')
    assert.equal(shown.status, 200)
    const { calls } = JSON.parse(shown.body) as { calls: { body: unknown }[] }
    assert.equal(calls[0]!.body, deep, 'as the original text')

    for (const path of ['/oauth/register', '/backchannel/complete', '/backchannel/authinfo']) {
      const heard = await send(
        'POST',
        path,
        { ...json, authorization: '{{basic:phoneService}}' },
        `{"authorization_details":${deep}}`,
      )
      assert.equal(heard.status, 400, `${path} ${heard.body}`)
    }
  })

  test('an unknown path under /oauth is answered as JSON', async () => {
    for (const [method, path] of [
      ['GET', '/oauth/nothing'],
      ['POST', '/oauth/'],
      ['PUT', '/.well-known/openid-configuration'],
    ] as const) {
      const heard = await send(method, path)
      assert.equal(heard.status, 404, path)
      assert.match(heard.headers.get('content-type') ?? '', /^application\/json/, path)
      assert.equal((JSON.parse(heard.body) as { error: string }).error, 'not_found', path)
    }
  })

  test('the return address of an unknown sign-in, with a client_id, is not answered with 500', async () => {
    for (const [way, status] of [
      ['x', 400],
      ['./', 404],
      ['x/', 404],
    ] as const) {
      const heard = await send('GET', `/oauth/authorize/${way}?client_id=phone-app`)
      assert.equal(heard.status, status, way)
      assert.doesNotMatch(heard.body, /Internal Server Error/)
    }
  })

  test('a HEAD of the event stream ends, and takes no place among the streams', async () => {
    const heard = await send('HEAD', '/events', { cookie: '{{session}}' })
    assert.equal(heard.status, 404)
  })
})
