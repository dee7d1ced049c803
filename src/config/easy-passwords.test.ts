import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { newSecret } from '../platform/crypto.ts'
import { isCommonPassword, isEasySequence, knownOrders } from './easy-passwords.ts'
import { weaknessOfPassword } from './weak-values.ts'

const common = createRequire(import.meta.url)('./common-passwords.json') as string[]

const problemOf = (password: string) => weaknessOfPassword(password, { id: 'e-1' })?.problem ?? ''

test('passwords that count, or follow the alphabet or the rows and columns of a keyboard, are weak', () => {
  const easy = [
    ...[
      '12345678',
      '123456789',
      '1234567890',
      '0123456789',
      '87654321',
      '9876543210',
      '0987654321',
      '1234567812345678',
    ],
    ...['abcdefgh', 'ABCDEFGH', 'hgfedcba', 'abcd1234', '1234abcd', 'abc123456', '12345678a', 'a12345678', 'xyz12345'],
    ...['qwertyuiop', 'QWERTYUIOP', 'poiuytrewq', 'qwertzuiop', 'azertyuiop', 'asdfghjkl', 'asdfghjk', 'zxcvbnm,.'],
    ...[
      'qwer1234',
      '1234qwer',
      'qweasdzxc',
      '123qweasd',
      'qwertyui!',
      '1qaz2wsx',
      '1qaz2wsx3edc',
      '!QAZ2wsx',
      '2wsx3edc4rfv',
    ],
    ...['йцукенгш', 'абвгдежз', '!@#$%^&*', 'ｑｗｅｒｔｙｕｉ'],
  ]
  for (const password of easy) assert.match(problemOf(password), /repeats itself|most common/, password)
})

test('passwords that repeat one character or one block are weak', () => {
  for (const password of [
    'aaaaaaaa',
    '11111111',
    '!!!!!!!!!!',
    'abababab',
    '12121212',
    'abcabcab',
    'test7test7',
    'aaaaaaaab',
    'xK9xK9xK9',
    '6Tg!z6Tg!z',
  ]) {
    assert.match(problemOf(password), /repeats itself/, password)
  }
  assert.equal(problemOf('aaaaaaa'), 'has fewer than 8 characters')
})

test('common passwords are weak, in any case, with digits for letters, and with numbers and signs around them', () => {
  for (const password of [
    ...[
      'password',
      'PASSWORD',
      'Password1',
      'P4ssw0rd',
      'P@$$w0rd!',
      'passw0rd2026',
      '123password',
      'Passwort!',
      'password-123',
    ],
    ...[
      'iloveyou',
      'trustno1',
      'letmein1',
      'welcome1',
      'Welcome2026!',
      'sunshine',
      'football',
      'Summer2026',
      'admin123',
    ],
    ...[
      '1q2w3e4r',
      'zaq12wsx',
      'changeme',
      'motdepasse',
      'contraseña',
      '11223344',
      '741852963',
      'dragon99',
      'doorbell',
      'qwerty12',
    ],
  ]) {
    assert.match(problemOf(password), /most common|repeats itself/, password)
  }
})

test('other passwords are not weak, and none of ten thousand random ones is', () => {
  for (const password of [
    'heron-4711',
    '52891abc5470',
    'korrekt-pferd-batterie',
    'password manager of ana',
    'mein Admin heisst Uwe',
    'T3st-Kaffee-am-See',
    'qwe-Tulpe-93',
    '2026-11-29-Ulm',
  ]) {
    assert.equal(problemOf(password), '', password)
  }
  for (let turn = 0; turn < 10_000; turn++) {
    const password = turn % 2 === 0 ? newSecret() : randomBytes(6).toString('hex')
    assert.equal(isCommonPassword(password) || isEasySequence(password), false, password)
  }
})

test('no list of easy passwords has an entry twice', () => {
  for (const list of [knownOrders, common]) {
    const twice = list.filter((entry, index) => list.indexOf(entry) !== index)
    assert.deepEqual(twice, [])
  }
})
