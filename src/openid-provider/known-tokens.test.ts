import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createKnownTokens } from './known-tokens.ts'

test('of one user, the tokens that were used last are known, and the tokens of others stay known', () => {
  const tokens = createKnownTokens()
  tokens.add('of ben', 'ben')
  for (let number = 0; number < 19; number++) tokens.add(`${number}`, 'ana')
  tokens.add('0', 'ana')
  for (let number = 19; number < 38; number++) tokens.add(`${number}`, 'ana')
  assert.deepEqual(
    ['of ben', '0', '1', '18', '19', '37'].map((token) => tokens.userOf(token)),
    ['ben', 'ana', undefined, undefined, 'ana', 'ana'],
  )
})

test('the number of tokens of all users is limited', () => {
  const tokens = createKnownTokens()
  for (let number = 0; number < 40_000; number++) tokens.add(`${number}`, `user ${number % 30_000}`)
  const known = Array.from({ length: 40_000 }, (_, number) => tokens.userOf(`${number}`)).filter(Boolean)
  assert.equal(known.length, 20_000)
  assert.deepEqual([tokens.userOf('19999'), tokens.userOf('20000')], [undefined, 'user 20000'])
})
