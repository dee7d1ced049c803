import assert from 'node:assert/strict'
import { test } from 'node:test'
import { adviceOnDatabase } from './database-advice.ts'

test('advice depends on the code of the error, or of its cause', () => {
  for (const [properties, advice] of [
    [{ code: '28P01' }, /^correct the user or the password/],
    [{ code: '53100' }, /^the disk of Postgres is full/],
    [{ code: 'ERR_SQLITE_ERROR', errcode: 13 }, /^the disk of the database is full/],
    [{ code: 'ERR_SQLITE_ERROR', errcode: 8 | (4 << 8) }, /^permit this user to write/],
    [{ code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' }, /sslrootcert/],
    [{ code: 'ENOENT', syscall: 'connect' }, /no database at this socket/],
  ] as const) {
    const error = Object.assign(new Error('x'), properties)
    assert.match(adviceOnDatabase(error)!, advice)
    assert.match(adviceOnDatabase(new Error('y', { cause: error }))!, advice)
  }
})

test('there is no advice for other errors', () => {
  const missing = Object.assign(new Error('no such file'), { code: 'ENOENT', syscall: 'open' })
  for (const error of [missing, new Error('x'), 'x', Object.assign(new Error('x'), { code: '23505' })]) {
    assert.equal(adviceOnDatabase(error), undefined)
  }
})
