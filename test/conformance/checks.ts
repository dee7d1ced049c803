/** The checks of the suite on each response (fapi-ciba.md §6). */
import assert from 'node:assert/strict'
import type { JSONWebKeySet } from 'jose'
import type { Heard } from '../support/notification-endpoint.ts'
import type { Answer } from '../support/stage.ts'

const json = /^application\/json(;|$)/

export function assertAcknowledgement(answer: Answer): { authReqId: string; expiresIn: number; interval: number } {
  assert.equal(answer.status, 200, answer.text)
  assert.match(answer.headers.get('content-type') ?? '', json)
  assert.equal('error' in answer.body, false)
  const { auth_req_id, expires_in: expiresIn, interval } = answer.body
  const authReqId = String(auth_req_id)
  assert.match(authReqId, /^[A-Za-z0-9_.-]+$/)
  assert.ok(Buffer.byteLength(authReqId) >= 16)
  // Above 160 bits the suite does not even warn.
  assert.ok(entropyOf(authReqId) > 160, `${entropyOf(authReqId)} bits`)
  assert.ok(typeof expiresIn === 'number' && expiresIn > 0 && expiresIn <= 30_758_400)
  assert.ok(typeof interval === 'number' && interval >= 0 && interval <= 21_600)
  return { authReqId, expiresIn, interval }
}

/** Checks an error of the backchannel authentication endpoint, which must have no other members. */
export function assertBackchannelError(answer: Answer, ...allowed: [status: number, error: string][]): void {
  assertError(answer, ...allowed)
  const members = Object.keys(answer.body).filter((name) => !['error', 'error_description', 'error_uri'].includes(name))
  assert.deepEqual(members, [])
}

export function assertError(answer: Answer, ...allowed: [status: number, error: string][]): void {
  const got = `${answer.status} ${answer.body.error}`
  assert.ok(
    allowed.some(([status, error]) => got === `${status} ${error}`),
    `${got}, not ${allowed.join(' or ')}: ${answer.text}`,
  )
  assert.match(answer.headers.get('content-type') ?? '', json)
  const { error, error_description: description = '', error_uri: uri } = answer.body as Record<string, string>
  for (const said of [error!, description]) assert.match(said, /^[\x20-\x21\x23-\x5b\x5d-\x7e]*$/)
  if (uri !== undefined) assert.ok(URL.canParse(uri))
}

export function assertPending(answer: Answer): void {
  assertError(answer, [400, 'authorization_pending'], [400, 'slow_down'])
}

export function assertTokens(answer: Answer): void {
  assert.equal(answer.status, 200, answer.text)
  assert.match(answer.headers.get('content-type') ?? '', json)
  assert.match(answer.headers.get('cache-control') ?? '', /no-store/)
  const { access_token, refresh_token, token_type, expires_in } = answer.body as Record<string, string>
  for (const token of [access_token!, ...(refresh_token === undefined ? [] : [refresh_token])]) {
    assert.ok(Buffer.byteLength(token) >= 16)
    assert.ok(entropyOf(token) > 96)
    assert.match(token, /^[\x20-\x7e]+$/)
  }
  assert.equal(token_type?.toLowerCase(), 'bearer')
  assert.ok(typeof expires_in === 'number' && expires_in > 0 && expires_in <= 365 * 24 * 3600)
}

export function assertPing(call: Heard, expected: { authReqId: string; notificationToken: string }): void {
  assert.equal(call.method, 'POST')
  assert.match(call.contentType ?? '', json)
  assert.equal(call.authorization, `Bearer ${expected.notificationToken}`)
  assert.deepEqual(call.body, { auth_req_id: expected.authReqId })
}

export function assertKeySet({ keys }: JSONWebKeySet): void {
  assert.ok(keys.length > 0)
  for (const key of keys) {
    assert.equal(typeof key.kid, 'string')
    for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k', 'oth']) assert.equal(secret in key, false)
    if (key.kty === 'RSA') assert.ok(Buffer.from(key.n!, 'base64url').length >= 256)
    else assert.equal(key.kty, 'EC')
  }
  assert.equal(new Set(keys.map(({ kid }) => kid)).size, keys.length, 'FI-17')
}

/** Estimates entropy as the suite does: from the frequencies of the characters in this one text, times its length. */
function entropyOf(text: string): number {
  const counts = new Map<string, number>()
  for (const char of text) counts.set(char, (counts.get(char) ?? 0) + 1)
  const perCharacter = [...counts.values()].reduce((sum, count) => {
    const share = count / text.length
    return sum - share * Math.log2(share)
  }, 0)
  return perCharacter * text.length
}
