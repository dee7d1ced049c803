import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { OAuthError, type OAuthErrorCode } from './oauth-error.ts'

describe('the status of an OAuthError (CIBA §13)', () => {
  const table: [status: number, codes: OAuthErrorCode[]][] = [
    [400, ['invalid_request', 'invalid_scope', 'expired_login_hint_token', 'unknown_user_id', 'unauthorized_client']],
    [400, ['missing_user_code', 'invalid_user_code', 'invalid_binding_message']],
    [400, ['authorization_pending', 'slow_down', 'expired_token', 'invalid_grant', 'unsupported_grant_type']],
    [401, ['invalid_client', 'invalid_token']],
    [403, ['access_denied', 'insufficient_scope']],
    [404, ['not_found']],
    [409, ['already_decided']],
    [410, ['expired']],
  ]
  for (const [status, codes] of table) {
    for (const code of codes) test(`${code} ${status}`, () => assert.equal(new OAuthError(code, 'why').status, status))
  }

  test('may be overridden where a standard says so; code, hint and detail stay separate', () => {
    const refusal = new OAuthError('access_denied', 'why', { status: 400, detail: 'for us', members: { a: 1 } })
    assert.deepEqual([refusal.status, refusal.hint, refusal.detail, refusal.members], [400, 'why', 'for us', { a: 1 }])
    assert.ok(!refusal.message.includes('for us'))
    assert.deepEqual(new OAuthError('not_found', 'why').headers, {})
  })
})
