import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exportJWK, generateKeyPair, type JSONWebKeySet, SignJWT } from 'jose'
import type { Client } from '../../client/client.ts'
import { createSeekUser } from './find-user.ts'

test('an id_token_hint verifies with a retired key as long as that key is kept (SC-6)', async () => {
  const { privateKey, publicKey } = await generateKeyPair('ES256')
  const issuer = 'https://id.example.com'
  const now = 1_800_000_000
  const hint = await new SignJWT({ sub: 'ana', aud: 'kiosk', iss: issuer, iat: now, exp: now + 60 })
    .setProtectedHeader({ alg: 'ES256', kid: 'old' })
    .sign(privateKey)
  let kept: JSONWebKeySet = { keys: [] }
  const seekUser = createSeekUser({
    users: { find: async (id) => ({ id }), findByHint: async ({ claims }) => ({ id: String(claims!.sub) }) },
    issuer,
    publicKeys: async () => kept,
    userOfSubject: async (_client, subject) => subject,
    readHintToken: undefined,
    clock: { now: () => now * 1000, after: () => () => {} },
  })
  const seek = () => seekUser({ kind: 'id_token_hint', value: hint }, { id: 'kiosk' } as Client)
  await assert.rejects(seek(), { code: 'invalid_request' })
  kept = { keys: [{ ...(await exportJWK(publicKey)), kid: 'old' }] }
  assert.deepEqual(await seek(), { user: { id: 'ana' } })
  kept = { keys: [] }
  await assert.rejects(seek(), { code: 'invalid_request' })
})
