import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { nameOfHost, problemWithPostgresUrl, readPostgresUrl } from './postgres-address.ts'

/** URLs as the manuals of Postgres and of providers print them, and what is read from them. */
const readable: Record<string, Record<string, unknown>> = {
  'postgres://doorbell:pass@db.example/doorbell': {
    hosts: ['db.example'],
    user: 'doorbell',
    password: 'pass',
    database: 'doorbell',
    sslMode: 'prefer',
    sessions: 'any',
  },
  'postgres://a,b/db?target_session_attrs=read-write': { hosts: ['a', 'b'], sessions: 'read-write', sslMode: 'prefer' },
  'postgresql://host1:123,host2:456/somedb?target_session_attrs=any&application_name=myapp': {
    hosts: ['host1:123', 'host2:456'],
    sessions: 'any',
  },
  'postgres://a,b:7,[::1]:9/db': { hosts: ['a', 'b:7', '[::1]:9'], sessions: 'read-write' },
  'postgres:///db?host=a,b&port=5433': { hosts: ['a:5433', 'b:5433'] },
  'postgres:///db?host=a,b&port=1,2': { hosts: ['a:1', 'b:2'] },
  'postgres://user@localhost:5433/mydb?options=-c%20synchronous_commit%3Doff': { user: 'user', sslMode: 'disable' },
  'postgres:///doorbell?host=/var/run/postgresql': { hosts: ['/var/run/postgresql'], sslMode: 'disable' },
  'postgresql://%2Fvar%2Flib%2Fpostgresql/dbname': { hosts: ['/var/lib/postgresql'], database: 'dbname' },
  'postgresql://': { hosts: ['localhost'], database: undefined, user: undefined },
  'postgres://?host=h&dbname=d&user=u&password=p%2B+': {
    hosts: ['h'],
    database: 'd',
    user: 'u',
    password: 'p++',
  },
  'postgres://u:p%40s%3As@h/d': { user: 'u', password: 'p@s:s' },
  'postgres://u:p@ss#1@h/d': { user: 'u', password: 'p@ss#1', hosts: ['h'] },
  'postgres://u@127.0.0.1/d?sslmode=verify-full&sslrootcert=/etc/ssl/db.pem': { sslMode: 'verify-full' },
  'postgres://u@db/d?sslrootcert=system': { sslMode: 'verify-full' },
  'postgres://u@db/d?ssl=true': { sslMode: 'require' },
  'postgres://u:npg_x@ep-cool-1.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=prefer': {
    sslMode: 'require',
  },
}

const unreadable: Record<string, RegExp> = {
  'postgres://u:hunter2@h:port/d': /^has a port that is not a number from 1 to 65535; special characters/,
  'postgres://u:hun/ter2@h/d': /^has a port that|^cannot be read; special characters in a user name or password/,
  'postgres://u:1/hunter2@h/d': /^cannot be read; special characters in a user name or password must be percent-encod/,
  'postgres://u:1?hunter2@h/d': /^has a parameter that cannot be read; special characters/,
  'postgres://u:hunter2@[::1/d': /^has a host that cannot be read/,
  'postgres://u:hunter2@[hunter2]/d': /^has a host that cannot be read/,
  'postgres://u:100%hunter2@h/d': /^cannot be read; special characters/,
  'postgres://u:hunter2@a,b/d?port=1,2,3': /^has 3 ports for 2 hosts$/,
  'postgres://u:hunter2@a/d?sslmod=verify-full':
    /^has a parameter that is not supported: sslmod; did you mean sslmode\?$/,
  'postgres://u:hunter2@a/d?sslmode=verify_full':
    /^has a wrong sslmode: it must be one of disable, allow, .*verify-full/,
  'postgres://u:hunter2@a/d?sslmode=': /^has a wrong sslmode/,
  'postgres://u:hunter2@a/d?hostaddr=10.0.0.1': /not supported: hostaddr; an address may stand in "host"$/,
  'postgres://u:hunter2@a,b/d?target_session_attrs=standby':
    /it must be one of any, read-write, primary; .*standby is of no/,
  'postgres://u:hunter2@a/d?channel_binding=require': /^has a wrong channel_binding.*sslmode=verify-full proves/,
  'postgres://u:hunter2@a/d?sslmode=require&sslrootcert=system':
    /^has sslrootcert=system, which needs sslmode=verify-full$/,
  'postgres://u:hunter2@a/d?sslcert=/hunter2.crt': /^must have both sslcert and sslkey, or neither$/,
  'postgres://u:hunter2@a/d?sslmode=prefer&sslnegotiation=direct': /^has sslnegotiation=direct, which needs/,
  'postgres://u:hunter2@a/d?connect_timeout=soon': /^has a wrong connect_timeout: it must be a whole number$/,
  'postgres://u:hunter2@a/d?sslmode': /^has a parameter without a value: sslmode$/,
}

describe('a Postgres URL', () => {
  test('is read as libpq reads it: hosts, ports, sockets, parameters', () => {
    for (const [url, expected] of Object.entries(readable)) {
      const { hosts, ...read } = readPostgresUrl(url, {})
      const all: Record<string, unknown> = { ...read, hosts: hosts.map(nameOfHost) }
      const actual = Object.fromEntries(Object.keys(expected).map((name) => [name, all[name]]))
      assert.deepEqual(actual, expected, url)
    }
  })

  test('that cannot be used is refused with the reason, without a part of the password', () => {
    for (const [url, reason] of Object.entries(unreadable)) {
      const problem = problemWithPostgresUrl(url) ?? 'accepted'
      assert.match(problem, reason, url)
      assert.doesNotMatch(problem, /hunter|ter2/, url)
    }
  })

  test('has a name for messages: all hosts, and neither user nor password', () => {
    const names = {
      'postgres://u:p@a:1,b/d?sslmode=require': 'postgres://a:1,b/d',
      'postgresql://u:p@[::1]/d': 'postgres://[::1]/d',
      'postgres:///d?host=/run/pg&password=p': 'postgres:///d?host=/run/pg',
      'postgres://u:p@%2Frun%2Fpg,b/d': 'postgres://b/d?host=/run/pg',
      'postgres://u:p@h': 'postgres://h/',
    }
    for (const [url, name] of Object.entries(names)) assert.equal(readPostgresUrl(url, {}).name, name)
  })

  test('that leaves something out is completed from PGHOST and PGSSLMODE', () => {
    const read = (url: string, env: NodeJS.ProcessEnv) => {
      const { hosts, sslMode } = readPostgresUrl(url, env)
      return [hosts.map(nameOfHost).join(), sslMode]
    }
    const env = { PGHOST: 'a,b', PGSSLMODE: 'verify-full' }
    assert.deepEqual(read('postgres:///d', env), ['a,b', 'verify-full'])
    assert.deepEqual(read('postgres://h/d', env), ['h', 'verify-full'])
    assert.deepEqual(read('postgres://h/d?sslmode=disable', env), ['h', 'disable'])
    assert.deepEqual(read('postgres:///d', { PGHOST: '/run/pg' }), ['/run/pg', 'disable'])
    assert.deepEqual(read('postgres:///d', { PGSSLMODE: 'nonsense' }), ['localhost', 'disable'])
  })
})
