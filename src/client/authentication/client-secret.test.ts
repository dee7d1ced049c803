import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createVault, newSecret } from '../../platform/crypto.ts'
import type { Client } from '../client.ts'
import { createSecretVerification } from './client-secret.ts'

const vault = createVault(newSecret())
const [secret, other] = [newSecret(), newSecret()]

const clientWith = (secretHash: string | undefined) => ({ id: 'kiosk', secretHash }) as Client

test('a verified secret is not accepted for another secret or another client', () => {
  const verify = createSecretVerification(vault)
  const client = clientWith(vault.keyedHash(secret))
  for (const [shown, isRight] of [
    [other, false],
    [secret, true],
    [secret, true],
    [other, false],
    ['', false],
    [client.secretHash!, false],
    [secret, true],
  ] as const) {
    assert.equal(
      verify(shown, client),
      isRight ? undefined : shown === '' ? 'the client secret is empty' : 'wrong client secret',
    )
  }
})

test('a client whose secret changed or was removed has to be verified anew', () => {
  const verify = createSecretVerification(vault)
  assert.equal(verify(secret, clientWith(vault.keyedHash(secret))), undefined)
  for (const now of [clientWith(vault.keyedHash(other)), clientWith(undefined)]) {
    assert.equal(verify(secret, now), 'wrong client secret')
  }
})
