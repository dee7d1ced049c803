import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createVault, fingerprint, newId, newSecret, sameSecret } from './crypto.ts'

const configured = (fill: number) => Buffer.alloc(32, fill).toString('base64url')

describe('a new secret', () => {
  test('is 256 bits in the alphabet of an auth_req_id (CIBA §7.3)', () => {
    const made = Array.from({ length: 500 }, () => newSecret())
    for (const secret of made) assert.match(secret, /^[A-Za-z0-9_-]{43}$/)
    assert.equal(new Set(made).size, 500)
    assert.equal(newSecret(16).length, 22)
  })

  test('shares no bytes with another, for any number and length of secrets', () => {
    const bytes = Array.from({ length: 3000 }, (_, n) => Buffer.from(newSecret(12 + (n % 30)), 'base64url'))
    const pieces = bytes.flatMap((secret) => [secret.toString('hex', 0, 6), secret.toString('hex', secret.length - 6)])
    assert.equal(new Set(pieces).size, pieces.length)
    assert.ok(!pieces.includes('000000000000'))
  })
})

describe('a new id', () => {
  test('is a UUID of version 7 that grows with time', () => {
    const ids = [1_000, 2_000, 1_790_000_000_000, 2 ** 47].map(newId)
    for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    assert.deepEqual(ids.toSorted(), ids)
  })
})

describe('a comparison', () => {
  for (const [one, other, same] of [
    ['a', 'a', true],
    ['a', 'b', false],
    ['a', 'aa', false],
    ['', '', true],
    ['', 'a', false],
    ['é', 'e\u0301', false],
  ] as const) {
    test(`"${one}" and "${other}"`, () => assert.equal(sameSecret(one, other), same))
  }

  test('a fingerprint is SHA-256 in base64url', () => {
    assert.equal(fingerprint(''), '47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU')
  })
})

describe('the vault', () => {
  const vault = createVault(configured(1))
  const sealed = vault.seal('plain ✓', 'table/row')

  test('opens what it sealed, also after a restart', () => {
    assert.equal(vault.open(sealed, 'table/row'), 'plain ✓')
    assert.equal(createVault(configured(1)).open(sealed, 'table/row'), 'plain ✓')
    assert.equal(vault.open(vault.seal('', 'p'), 'p'), '')
    assert.notEqual(vault.seal('plain ✓', 'table/row'), sealed, 'never the same twice')
    assert.ok(!Buffer.from(sealed.slice(3), 'base64url').includes('plain'))
  })

  const flipped = (at: number) => {
    const bytes = Buffer.from(sealed.slice(3), 'base64url')
    bytes[at < 0 ? bytes.length + at : at]! ^= 1
    return `v1.${bytes.toString('base64url')}`
  }
  for (const [name, open] of [
    ['moved elsewhere', () => vault.open(sealed, 'table/other')],
    ['under another secret', () => createVault(configured(2)).open(sealed, 'table/row')],
    ['with another start', () => vault.open(flipped(0), 'table/row')],
    ['with another middle', () => vault.open(flipped(14), 'table/row')],
    ['with another end', () => vault.open(flipped(-1), 'table/row')],
    ['cut short', () => vault.open(sealed.slice(0, 20), 'table/row')],
    ['of another version', () => vault.open(sealed.replace('v1.', 'v2.'), 'table/row')],
    ['that is empty', () => vault.open('', 'table/row')],
  ] as const) {
    test(`does not decrypt a value ${name}, and does not repeat it`, () => {
      assert.throws(
        open,
        (error: Error) => /cannot be decrypted|is not encrypted/.test(error.message) && !error.message.includes(sealed),
      )
    })
  }

  test('has a different key for each purpose and each secret', () => {
    const keys = [vault.key('a'), vault.key('b'), createVault(configured(2)).key('a')].map(String)
    assert.equal(new Set(keys).size, 3)
    assert.deepEqual(vault.key('a'), createVault(configured(1)).key('a'))
    assert.notEqual(vault.keyedHash('x'), createVault(configured(2)).keyedHash('x'))
    assert.equal(vault.keyedHash('x'), vault.keyedHash('x'))
  })
})
