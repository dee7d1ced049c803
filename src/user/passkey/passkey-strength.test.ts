import assert from 'node:assert/strict'
import { test } from 'node:test'
import { acceptsOnlyPasskey, asksForPasskey, authenticatedByPasskey } from './passkey-strength.ts'

test('acr_values that contain phr ask for a passkey; acr_values that contain nothing else require it', () => {
  for (const [acrValues, asks, accepts] of [
    ['phr', true, true],
    ['phr phr', true, true],
    ['urn:else phr', true, false],
    ['phr urn:else', true, false],
    ['phrh', false, false],
    ['PHR', false, false],
    ['', false, false],
    [undefined, false, false],
    [['phr'], false, false],
  ] as const) {
    assert.deepEqual([asksForPasskey(acrValues), acceptsOnlyPasskey(acrValues)], [asks, accepts], String(acrValues))
  }
})

test('a user who has just used a passkey was authenticated in this second', () => {
  assert.deepEqual(authenticatedByPasskey(1_790_000_000_999), {
    acr: 'phr',
    amr: ['pop', 'user'],
    authTime: 1_790_000_000,
  })
})
