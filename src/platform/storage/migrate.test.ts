import assert from 'node:assert/strict'
import { test } from 'node:test'
import { statementsIn } from './migrate.ts'

test('statements end with a semicolon at the end of a line', () => {
  assert.deepEqual(statementsIn("create table a (\n  b text default ';x'\n);\n\ncreate index c on a (b);  \n"), [
    "create table a (\n  b text default ';x'\n)",
    'create index c on a (b)',
  ])
})

test('comments are not statements, even if they end with a semicolon', () => {
  assert.deepEqual(statementsIn('-- first this;\nselect 1;\n  -- then that;\n'), ['select 1'])
})

test('the last statement needs no semicolon', () => {
  assert.deepEqual(statementsIn('select 1;\nselect 2'), ['select 1', 'select 2'])
})
