import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errors, exportJWK, generateKeyPair, jwtVerify, SignJWT } from 'jose'
import { keysIn } from './find-key.ts'

test('of many keys that match a signature, twenty are tried', async () => {
  const pairs = await Promise.all(Array.from({ length: 21 }, () => generateKeyPair('ES256')))
  const keys = await Promise.all(pairs.map(({ publicKey }) => exportJWK(publicKey)))
  const find = keysIn({ keys })
  const signedBy = (index: number) =>
    new SignJWT({}).setProtectedHeader({ alg: 'ES256' }).sign(pairs[index]!.privateKey)
  for (const index of [0, 10, 19]) await jwtVerify(await signedBy(index), find)
  await assert.rejects(jwtVerify(await signedBy(20), find), errors.JWSSignatureVerificationFailed)
})
