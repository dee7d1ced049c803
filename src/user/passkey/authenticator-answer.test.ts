import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readAnswer } from './authenticator-answer.ts'

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const clientDataJSON = base64url({ challenge: 'abc' })
const answer = (more: object = {}, response: object = {}) =>
  JSON.stringify({ id: 'c1', response: { clientDataJSON, ...response }, ...more })

test('a response names its passkey and its challenge', () => {
  const text = answer({}, { userHandle: 'dQ', transports: ['usb', 'hybrid'] })
  assert.deepEqual(readAnswer(text), {
    credentialId: 'c1',
    challenge: 'abc',
    userHandle: 'dQ',
    transports: ['usb', 'hybrid'],
    whole: JSON.parse(text),
  })
  assert.equal(readAnswer(answer())!.userHandle, undefined)
})

test('only possible values of transports are kept', () => {
  const transports = ['usb', 7, null, 'Not one', '<b>', 'x'.repeat(21), ...Array(30).fill('nfc')]
  const kept = readAnswer(answer({}, { transports }))!.transports
  assert.deepEqual([...new Set(kept)], ['usb', 'nfc'])
  assert.equal(kept.length, 10)
  assert.deepEqual(readAnswer(answer({}, { transports: { length: 3 } }))!.transports, [])
})

test('input that is not a response is rejected', () => {
  for (const text of [
    '',
    'nonsense',
    'null',
    '[]',
    '"text"',
    '{}',
    answer({ id: '' }),
    answer({ id: 7 }),
    answer({ id: 'nul\0' }),
    answer({ id: 'x'.repeat(1401) }),
    answer({ response: null }),
    answer({ response: [] }),
    answer({}, { clientDataJSON: 7 }),
    answer({}, { clientDataJSON: 'e30' }),
    answer({}, { clientDataJSON: base64url({ challenge: { a: 1 } }) }),
    answer({}, { clientDataJSON: '%%%' }),
    answer({ more: 'x'.repeat(20_000) }),
  ]) {
    assert.equal(readAnswer(text), undefined, text.slice(0, 60))
  }
})
