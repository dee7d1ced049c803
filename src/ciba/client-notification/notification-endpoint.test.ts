import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CallFailed, type CallFailure, type GuardedCaller, type OutgoingCall } from '../../platform/http/outgoing.ts'
import { callBack, meaningOf } from './notification-endpoint.ts'

describe('the outcome of a call by the status of the response (M51, M52, PI-5 to PI-8)', () => {
  const table: [kind: string, statuses: number[]][] = [
    ['delivered', [200, 201, 202, 204, 299]],
    ['refused', [100, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 408, 410, 499]],
    ['failed', [429, 500, 502, 503, 504, 599]],
  ]
  for (const [kind, statuses] of table) {
    for (const status of statuses) {
      test(`${status}: ${kind}`, () => {
        assert.deepEqual(meaningOf(status), { kind, words: `answered ${status}` })
      })
    }
  }

  for (const [said, after] of [
    ['0', undefined],
    ['-1', undefined],
    ['soon', undefined],
    ['1', 1_000],
    ['120', 120_000],
    ['999999', 3_600_000],
    ['Tue, 24 Nov 2026 10:01:30 GMT', 90_000],
    ['Tue, 24 Nov 2026 09:59:00 GMT', undefined],
  ] as const) {
    test(`429 with Retry-After "${said}": waits ${after ?? 'as usual'}`, () => {
      const meaning = meaningOf(429, { 'retry-after': said, date: 'Tue, 24 Nov 2026 10:00:00 GMT' })
      assert.equal('after' in meaning ? meaning.after : undefined, after)
    })
  }

  test('a date in Retry-After is ignored in a response without a Date header', () => {
    const meaning = meaningOf(503, { 'retry-after': 'Tue, 24 Nov 2026 10:01:30 GMT' })
    assert.deepEqual(meaning, { kind: 'failed', words: 'answered 503' })
  })
})

describe('a call of the client notification endpoint', () => {
  const request = { clientId: 'till', address: 'https://client.example/n', bearer: 'token', body: '{}' }
  const signal = new AbortController().signal

  test('is a POST of JSON with the bearer token, and ignores the body of the response (NE-2)', async () => {
    const calls: OutgoingCall[] = []
    const caller = {
      call: async (call: OutgoingCall) => {
        calls.push(call)
        return { status: 204, headers: {}, body: '' }
      },
    } as unknown as GuardedCaller
    assert.equal((await callBack(request, caller, signal)).kind, 'delivered')
    const [{ url, method, headers, body, ignoreBody }] = calls as [OutgoingCall]
    assert.deepEqual(
      { url, method, headers, body, ignoreBody },
      {
        url: request.address,
        method: 'POST',
        headers: { authorization: 'Bearer token', 'content-type': 'application/json' },
        body: '{}',
        ignoreBody: true,
      },
    )
  })

  const failures: Record<Exclude<CallFailure, 'stopped'>, 'refused' | 'failed'> = {
    address_forbidden: 'refused',
    not_https: 'refused',
    bad_url: 'refused',
    name_not_found: 'failed',
    refused: 'failed',
    timeout: 'failed',
    too_large: 'failed',
    tls_failed: 'failed',
    connection_lost: 'failed',
  }
  for (const [word, kind] of Object.entries(failures)) {
    test(`that fails with ${word}: ${kind}`, async () => {
      assert.deepEqual(await callBack(request, failing(new CallFailed(word as CallFailure)), signal), {
        kind,
        words: word,
      })
    })
  }

  test('that is stopped, or fails by an error in our code, rejects', async () => {
    await assert.rejects(callBack(request, failing(new CallFailed('stopped')), signal), CallFailed)
    await assert.rejects(callBack(request, failing(new TypeError('bug')), signal), TypeError)
  })
})

function failing(error: Error): GuardedCaller {
  return { call: () => Promise.reject(error), close: async () => {} }
}
