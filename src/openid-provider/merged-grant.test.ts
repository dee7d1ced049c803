import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mergedGrant } from './merged-grant.ts'

const grant = { jti: 'g', accountId: 'ana', clientId: 'shop' }

test('what two calls have added to a grant is kept, each of it once', () => {
  const stored = {
    ...grant,
    exp: 10,
    openid: { scope: 'openid email', claims: ['name'] },
    resources: { 'https://a.example': 'read' },
    rar: [{ type: 'payment', most: 5 }],
  }
  const saved = {
    ...grant,
    exp: 20,
    openid: { scope: 'openid profile', claims: ['name', 'birthdate'] },
    resources: { 'https://a.example': 'write', 'https://b.example': 'read' },
    rejected: { openid: { scope: 'phone' } },
    rar: [{ type: 'payment', most: 5 }, { type: 'account' }],
  }
  assert.deepEqual(mergedGrant(stored, saved), {
    ...grant,
    exp: 20,
    openid: { scope: 'openid email profile', claims: ['name', 'birthdate'] },
    resources: { 'https://a.example': 'read write', 'https://b.example': 'read' },
    rejected: { openid: { scope: 'phone' } },
    rar: [{ type: 'payment', most: 5 }, { type: 'account' }],
  })
})

test('a grant that is not stored yet, or cannot be read, is stored as it is', () => {
  const saved = { ...grant, openid: { scope: 'openid' } }
  assert.deepEqual(mergedGrant(undefined, saved), saved)
  assert.deepEqual(mergedGrant({ ...grant }, saved), saved)
})
