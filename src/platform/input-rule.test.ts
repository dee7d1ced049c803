import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Rule, violationsOf } from './input-rule.ts'

interface Range {
  min: number
  max: number
}

const rules: Rule<Range, { limit: number }, keyof Range>[] = [
  { settings: ['max'], requires: ({ max }, { limit }) => max <= limit, message: (_, { limit }) => `exceeds ${limit}` },
  { settings: ['min', 'max'], requires: ({ min, max }) => min <= max, message: 'is more than max' },
]

test('each broken rule is reported in order, under its first setting', () => {
  assert.deepEqual(violationsOf(rules, { min: 9, max: 8 }, { limit: 7 }), [
    { setting: 'max', message: 'exceeds 7' },
    { setting: 'min', message: 'is more than max' },
  ])
  assert.deepEqual(violationsOf(rules, { min: 1, max: 2 }, { limit: 7 }), [])
})

test('a rule is skipped where one of its settings is invalid by itself', () => {
  const broken = { min: 9, max: 8 }
  assert.deepEqual(
    violationsOf(rules, broken, { limit: 7 }, (setting) => setting === 'max'),
    [],
  )
  assert.deepEqual(
    violationsOf(rules, broken, { limit: 7 }, (setting) => setting === 'min'),
    [{ setting: 'max', message: 'exceeds 7' }],
  )
})
