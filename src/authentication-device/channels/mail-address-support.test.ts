import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressIn, needsSmtpUtf8 } from './mail-address-support.ts'

for (const [address, needs] of [
  ['ana@example.com', false],
  ['ana+news@example.com', false],
  ['info@müller.example', false],
  ['jörg@example.com', true],
  ['josé.garcía@correo.example', true],
  ['用户@例子.广告', true],
  ['"a@ö"@example.com', true],
] as const) {
  test(`${address} ${needs ? 'needs' : 'does not need'} SMTPUTF8`, () => {
    assert.equal(needsSmtpUtf8(address), needs)
  })
}

test('the address of a From header', () => {
  for (const from of ['Café <no-reply@example.com>', '"Bank, Ltd." <no-reply@example.com> ', 'no-reply@example.com']) {
    assert.equal(addressIn(from), 'no-reply@example.com')
  }
})
