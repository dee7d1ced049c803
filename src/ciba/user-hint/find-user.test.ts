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

test('the subjects among the aliases of a hint are looked up one after the other', async () => {
  const issuer = 'https://id.example.com'
  let [underWay, most] = [0, 0]
  let found: unknown
  const seekUser = createSeekUser({
    users: {
      find: async (id) => ({ id }),
      async findByHint({ identifier }) {
        found = identifier?.identifiers
        return null
      },
    },
    issuer,
    publicKeys: async () => ({ keys: [] }),
    async userOfSubject(_client, subject) {
      most = Math.max(most, ++underWay)
      await new Promise(setImmediate)
      underWay -= 1
      return `user-${subject}`
    },
    readHintToken: undefined,
    clock: { now: () => 0, after: () => () => {} },
  })
  const aliases = (form: (sub: string) => string) =>
    ['a', 'b', 'c', 'd', 'e'].map((sub) => ({ format: 'iss_sub', iss: issuer, sub: form(sub) }))
  const value = JSON.stringify({ format: 'aliases', identifiers: aliases((sub) => sub) })
  await seekUser({ kind: 'login_hint', value }, { id: 'kiosk' } as Client)
  assert.deepEqual(
    found,
    aliases((sub) => `user-${sub}`),
  )
  assert.equal(most, 1)
})
