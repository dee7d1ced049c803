import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toSqliteDialect, wordsOfPostgres } from './sql-dialect.ts'

test('parameters are written in the syntax of each engine', () => {
  const sql = 'select a from t where b = $1 and c = $12'
  assert.equal(wordsOfPostgres(sql), sql)
  assert.equal(toSqliteDialect(sql), 'select a from t where b = ?1 and c = ?12')
})

test('text in quotes and comments is not a parameter', () => {
  const sql = `select 'it''s $1', "$2" -- isn't $3\n/* nor is $4 */ from t where b = $5`
  assert.equal(toSqliteDialect(sql), `select 'it''s $1', "$2" -- isn't $3\n/* nor is $4 */ from t where b = ?5`)
})

test('locked rows are skipped on Postgres; SQLite keeps the comment', () => {
  const sql = 'select id from t limit 1 /* for update skip locked */'
  assert.equal(wordsOfPostgres(sql), 'select id from t limit 1 for update skip locked')
  assert.equal(toSqliteDialect(sql), sql)
})

test('a list becomes rows', () => {
  const sql = 'select value from each($2) where value <> $1'
  assert.equal(
    wordsOfPostgres(sql),
    'select value from (select * from (select * from jsonb_array_elements_text($2::jsonb) as item(value) limit (select 1000000000)) as items limit (select 1000000000)) as each where value <> $1',
  )
  assert.equal(toSqliteDialect(sql), 'select value from (select value from json_each(?2)) as each where value <> ?1')
})

test('a list of objects becomes rows with columns', () => {
  const sql = 'insert into t select id, n from rows($1) as asked (id text,\n  n bigint) where n <> $2'
  assert.equal(
    wordsOfPostgres(sql),
    'insert into t select id, n from (select * from (select * from json_to_recordset($1::json) as item (id text,\n  n bigint) limit (select 1000000000)) as items limit (select 1000000000)) as asked where n <> $2',
  )
  const onSqlite = (each: string) =>
    `insert into t select id, n from (select value ->> 'id' as id, value ->> 'n' as n from ${each}(?1) limit -1) as asked where n <> ?2`
  for (const version of ['3.51.0', '3.100.1', '4.0.0']) {
    assert.equal(toSqliteDialect(sql, version), onSqlite('jsonb_each'), version)
  }
  for (const version of ['3.49.2', '3.5.1', undefined]) {
    assert.equal(toSqliteDialect(sql, version ?? ''), onSqlite('json_each'), version)
  }
})

test('other functions whose names end in "each" are not changed', () => {
  assert.equal(wordsOfPostgres('select 1 from jsonb_each($1)'), 'select 1 from jsonb_each($1)')
})
