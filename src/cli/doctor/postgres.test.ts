import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Config } from '../../config/config.ts'
import { examineProtection } from './postgres.ts'

test('doctor warns of each mode in which connections to another machine can be intercepted', () => {
  const says = (database: string) => examineProtection({ database } as Config).map((finding) => finding.says)
  const to = 'connections to db.example:5433'
  const warnings: Record<string, string> = {
    '': `${to} are encrypted only if the database offers it, and its certificate is not checked (sslmode=prefer)`,
    '?sslmode=disable': `${to} are not encrypted (sslmode=disable)`,
    '?sslmode=require': `${to} are encrypted, but the certificate of the database is not checked (sslmode=require)`,
    '?ssl=true': `${to} are encrypted, but the certificate of the database is not checked (sslmode=require)`,
    '?sslmode=verify-ca&sslrootcert=/ca.pem': `${to} are encrypted, but any certificate of the authority is accepted, whatever name it has (sslmode=verify-ca)`,
    '?sslmode=require&sslrootcert=/ca.pem': `${to} are encrypted, but any certificate of the authority is accepted, whatever name it has (sslmode=require)`,
  }
  for (const [parameters, warning] of Object.entries(warnings)) {
    assert.deepEqual(says(`postgres://u:p@localhost,db.example:5433/d${parameters}`), [warning])
  }
  for (const safe of [
    'postgres://db.example/d?sslmode=verify-full',
    'postgres://db.example/d?sslrootcert=system',
    'postgres://127.0.0.1,[::1],localhost/d',
    'postgres:///d?host=/run/postgresql&sslmode=disable',
    'sqlite:./doorbell.db',
  ]) {
    assert.deepEqual(says(safe), [], safe)
  }
})
