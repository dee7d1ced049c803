import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AuthenticationRequest } from '../../ciba/authentication-request/authentication-request.ts'
import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import { passkeyRequired } from './approval-strength.ts'

const now = 1_790_000_000_000
const ago = (seconds: number) => now / 1000 - seconds
const asking = (acrValues: string | undefined) => ({ acrValues }) as AuthenticationRequest
const client = (required?: boolean) => ({ backchannel_require_passkey: required }) as ClientMetadata

test('a passkey is required if request or client ask for one and the user has not just signed in with one', () => {
  const password = { amr: ['pwd'], authTime: ago(1) }
  const phr = (seconds: number) => ({ acr: 'phr', authTime: ago(seconds) })
  for (const [acrValues, required, authentication, needed] of [
    [undefined, undefined, password, false],
    ['urn:else', false, password, false],
    ['phr', undefined, password, true],
    ['urn:else phr', undefined, password, true],
    [undefined, true, password, true],
    ['phr', true, phr(299), false],
    ['phr', true, phr(300), true],
    ['phr', true, { acr: 'phr' }, true],
    ['phr', true, { acr: 'phrh', authTime: ago(1) }, true],
    ['phr', true, {}, true],
  ] as const) {
    const approver = { kind: 'user' as const, authentication: authentication as object }
    const said = passkeyRequired(asking(acrValues), client(required), approver, now)
    assert.equal(said, needed, JSON.stringify([acrValues, required, authentication]))
  }
})

test('a device service needs no passkey; if the client was removed, only the request can require one', () => {
  const service = { kind: 'device_service' as const, authentication: {} }
  assert.equal(passkeyRequired(asking('phr'), client(true), service, now), false)
  const user = { kind: 'user' as const, authentication: {} }
  assert.equal(passkeyRequired(asking('phr'), undefined, user, now), true)
  assert.equal(passkeyRequired(asking(undefined), undefined, user, now), false)
})
