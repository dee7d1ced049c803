import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDatabaseUnavailable } from './unavailable.ts'

const withCode = (code: string, more = {}) => Object.assign(new Error('failed'), { code, ...more })
const ofSqlite = (errcode: number) => withCode('ERR_SQLITE_ERROR', { errcode })

/** Every SQLSTATE of Postgres 18 for a condition that is temporary or that an operator can repair. */
const temporary = `08000 08003 08006 08001 08004 08007 08P01 0A000 25006 25P03 25P04 28000 28P01 3D000 40000 40001 40002 40003
  40P01 53000 53100 53200 53300 53400 55000 55006 55P03 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 58P02`

const permanent =
  '22001 22021 22P02 23502 23503 23505 23514 25001 25P02 3F000 42501 42601 42703 42P01 42P05 54000 XX000 XX001'

test('temporary failures of Postgres are recognised by their SQLSTATE', () => {
  for (const code of temporary.split(/\s+/)) assert.ok(isDatabaseUnavailable(withCode(code)), code)
  for (const code of permanent.split(/\s+/)) assert.ok(!isDatabaseUnavailable(withCode(code)), code)
})

test('temporary failures of SQLite are recognised by the primary code of an extended code', () => {
  // BUSY, BUSY_SNAPSHOT, LOCKED, NOMEM, READONLY_DBMOVED, INTERRUPT, IOERR_WRITE, IOERR_FSYNC, FULL, CANTOPEN, PROTOCOL
  for (const code of [5, 517, 6, 7, 1032, 9, 778, 1034, 13, 14, 15])
    assert.ok(isDatabaseUnavailable(ofSqlite(code)), `${code}`)
  // ERROR, CORRUPT, CONSTRAINT_UNIQUE, MISMATCH, MISUSE, NOTADB
  for (const code of [1, 11, 2067, 20, 21, 26]) assert.ok(!isDatabaseUnavailable(ofSqlite(code)), `${code}`)
})

test('failures to reach the database are recognised', () => {
  for (const code of ['ECONNREFUSED', 'EPIPE', 'EAI_AGAIN', 'EMFILE', 'ENOSPC', 'CERT_HAS_EXPIRED']) {
    assert.ok(isDatabaseUnavailable(withCode(code)), code)
  }
  assert.ok(isDatabaseUnavailable(withCode('ENOENT', { syscall: 'connect' })))
  assert.ok(!isDatabaseUnavailable(withCode('ENOENT', { syscall: 'open' })))
  // Errors of `pg` and its pool that have no code.
  for (const words of [
    'Connection terminated unexpectedly',
    'Client has encountered a connection error and is not queryable',
    'timeout exceeded when trying to connect',
    'SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string',
  ]) {
    assert.ok(isDatabaseUnavailable(new Error(words)), words)
  }
  for (const other of [new Error('anything'), withCode('ERR_INVALID_ARG_TYPE'), 'ECONNREFUSED', undefined]) {
    assert.ok(!isDatabaseUnavailable(other))
  }
})
