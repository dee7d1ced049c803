import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLongEnough, newClientSecret } from './hmac-secret.ts'

test('a secret must be as long as the hash of its algorithm, in bytes (RFC 7518 §3.2)', () => {
  const cases: [alg: string | undefined, secret: string, expected: boolean][] = [
    ['HS256', 'x'.repeat(31), false],
    ['HS256', 'x'.repeat(32), true],
    ['HS384', 'x'.repeat(47), false],
    ['HS384', 'x'.repeat(48), true],
    ['HS512', 'x'.repeat(63), false],
    ['HS512', 'x'.repeat(64), true],
    ['HS256', 'é'.repeat(16), true],
    ['HS512', 'é'.repeat(31), false],
    [undefined, 'x'.repeat(31), false],
    [undefined, 'x'.repeat(32), true],
    ['ES256', 'x'.repeat(64), false],
    ['none', 'x'.repeat(64), false],
  ]
  for (const [alg, secret, expected] of cases) assert.equal(isLongEnough(secret, alg), expected, `${alg} ${secret}`)
})

test('a new secret for client_secret_jwt is long enough for every algorithm', () => {
  for (const alg of ['HS256', 'HS384', 'HS512']) assert.ok(isLongEnough(newClientSecret('client_secret_jwt'), alg), alg)
})
