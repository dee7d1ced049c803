/** A few thousand fixed requests of `npm run fuzz`, and tests that it detects faults. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { faultOf, faultOfLine } from './checks.ts'
import { readSeeds, seedsOf, shoot } from './grammar.ts'
import { openHouse } from './house.ts'
import { createRandom } from './random.ts'
import { fuzz } from './run.ts'
import { bytesOf, readable, type Shot } from './shot.ts'
import { shrink } from './shrink.ts'
import type { Heard } from './wire.ts'

describe('fuzzing', () => {
  for (const seed of [1, 2]) {
    test(`2500 requests of seed ${seed}: no 5xx, no silence, nothing uncaught, no secret in the log`, async () => {
      const { findings, answered, statuses } = await fuzz({ requests: 2500, seed })
      assert.deepEqual(
        findings.map(({ what, bytes, log }) => `${what}\n${readable(bytes)}\n${log.join('')}`),
        [],
      )
      assert.equal(answered, 2500)
      // The fuzzer also gets past authentication: it sends, decides and redeems requests.
      for (const status of [200, 201, 204, 303, 400, 401, 403, 404, 405]) assert.ok(statuses.has(status), `${status}`)
    })
  }

  test('every route of the server is covered', async () => {
    const house = await openHouse()
    await house.close()
    const paths = seedsOf(house.routes).map(({ method, path }) => `${method} ${path}`)
    for (const path of [
      'POST /backchannel/authorize',
      'POST /oauth/token',
      'GET /approve/{{request_id:0}}',
      'GET /demo',
      'GET /sessions',
      'POST /sessions/end',
      'POST /backchannel/sessions/end',
      'POST /oauth/logout/confirm',
    ]) {
      assert.ok(paths.includes(path), path)
    }
    assert.ok(paths.length > 150, `${paths.length}`)
  })

  test('values that cannot be converted to texts are generated wherever JSON is read, and NUL in two encodings', () => {
    const random = createRandom(1)
    const seeds = readSeeds()
    const sent = Array.from({ length: 50_000 }, () => shoot(seeds, random)).map(({ method, target, body }) => {
      const text = `${method} ${target} ${body}`
      const jwts = [...text.matchAll(/\{\{jwt:([\w-]+)\}\}/g)].map(([, jwt]) =>
        Buffer.from(jwt!, 'base64url').toString(),
      )
      return [text.replaceAll('%22', '"').replaceAll('%7B', '{').replaceAll('%3A', ':'), ...jwts].join(' ')
    })
    for (const what of [
      /"acr":\{[^}]*"values?"(:|%5B)+\{"toString"/,
      /client_assertion=.*"header":\{[^}]*"typ":\{"toString"/,
      /"claims":\{[^}]*:\{"toString"/,
      /PUT .*client_secret_jwt.*"token_endpoint_auth_signing_alg":\{"toString"/,
      /"jwks":\{"toString"/,
      /acct:%2500/,
    ]) {
      assert.ok(
        sent.some((text) => what.test(text)),
        String(what),
      )
    }
  })

  test('the same seed generates the same requests', () => {
    const shots = (seed: number) => {
      const random = createRandom(seed)
      return Array.from({ length: 50 }, () => shoot(readSeeds(), random))
    }
    assert.deepEqual(shots(3), shots(3))
    assert.notDeepEqual(shots(3), shots(4))
  })
})

describe('it detects faults', () => {
  const shot: Shot = {
    method: 'GET',
    target: '/',
    version: 'HTTP/1.1',
    headers: [['host', 'x']],
    body: '',
    framing: 'none',
  }
  const answer = (status: number, type: string, body: string): Heard => ({
    kind: 'answer',
    status,
    headers: new Map([['content-type', type]]),
    cookies: [],
    body,
  })

  test('5xx, silence, and malformed errors', () => {
    assert.equal(faultOf(shot, answer(200, 'text/plain', 'ok')), undefined)
    assert.equal(faultOf(shot, answer(400, 'application/json', '{"error":"x"}')), undefined)
    assert.equal(faultOf(shot, answer(404, 'text/html; charset=utf-8', '<!doctype html>')), undefined)
    assert.equal(faultOf(shot, answer(500, 'application/json', '{"error":"x"}')), 'answered 500')
    assert.equal(faultOf(shot, answer(400, 'application/json', '{"error"')), 'a 400 whose JSON names no error')
    assert.equal(faultOf(shot, answer(404, 'text/html', 'Not found')), 'a 404 whose HTML is none')
    assert.equal(faultOf(shot, answer(401, 'application/json', '{"error":"x"}')), 'a 401 without WWW-Authenticate')
    assert.equal(faultOf(shot, answer(404, 'text/plain', 'Not found')), 'a 404 of type text/plain')
    assert.equal(faultOf(shot, { ...answer(0, '', ''), kind: 'silence' }), 'no answer in time')
    const closed: Heard = { ...answer(0, '', ''), kind: 'closed' }
    assert.equal(faultOf(shot, closed), 'the connection was closed without an answer')
    assert.equal(faultOf({ ...shot, framing: 'garbled' }, closed), undefined)
  })

  test('secrets in the log, and errors', () => {
    const isSecret = (word: string) => word === 'abcdefghijklmnop'
    const line = (more: object) => JSON.stringify({ level: 30, msg: 'hello', ...more })
    assert.equal(faultOfLine(line({}), isSecret), undefined)
    assert.equal(faultOfLine(line({ url: '/x?code=abcdefghijklmnop&y' }), isSecret), 'a secret in the log')
    assert.equal(faultOfLine(line({ is: 'Bearer abcdefghijklmnop' }), isSecret), 'a secret in the log')
    assert.match(
      faultOfLine(line({ level: 50, error: { message: 'no' } }), isSecret)!,
      /logged as an error: hello \(no\)/,
    )
  })

  test('a failing request is minimized', async () => {
    const large: Shot = {
      ...shot,
      method: 'POST',
      target: '/x?a=1&b=2',
      headers: [
        ['host', 'x'],
        ['cookie', 'y'],
      ],
      body: `a=1&b=2&bad=${'x'.repeat(500)}!&c=3`,
      framing: 'length',
    }
    const smallest = await shrink(large, async ({ body }) => body.includes('!'))
    assert.deepEqual(smallest, { ...large, target: smallest!.target, headers: [], body: '!' })
    assert.ok(smallest!.target.length <= 1)
    assert.equal(await shrink(large, async () => false), undefined)
    assert.equal(
      bytesOf(smallest!, (text) => text)
        .toString()
        .split('\r\n')
        .at(-1),
      '!',
    )
  })
})
