/** URLs with several hosts, with unix sockets and with `sslmode`, each at real servers. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, type TestContext, test } from 'node:test'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Certified, certify } from '../support/certificates.ts'
import { freePort } from '../support/ports.ts'
import { freshPostgres, type PostgresServer, startPostgres } from '../support/postgres.ts'
import { startPostgresPair } from '../support/postgres-pair.ts'
import { until } from '../support/until.ts'

const open = (url: string) => openDatabase(url, { log: createLog('silent'), clock: systemClock })

async function opened(t: TestContext, url: string): Promise<Database> {
  const database = await open(url)
  t.after(() => database.close())
  return database
}

const portOf = (url: string) => Number(new URL(url).port)

/** Resolves to how a connection to this URL is encrypted, and to its port. The port is null for a unix socket. */
async function seenFrom(url: string) {
  const database = await open(url)
  try {
    const [row] = await database.read<{ ssl: number; port: number | null }>(
      'select ssl, inet_server_port() as port from pg_stat_ssl where pid = pg_backend_pid()',
    )
    return row!
  } finally {
    await database.close()
  }
}

describe('several hosts', () => {
  test('the connections lead to the server that accepts changes, before and after a promotion', async (t) => {
    const pair = await startPostgresPair()
    t.after(() => pair.stop())
    const [primary, standby, away] = [portOf(pair.primary), portOf(pair.standby), await freePort()]
    const urlOf = (ports: number[], parameters = '') =>
      `postgres://postgres@${ports.map((port) => `127.0.0.1:${port}`).join(',')}/postgres${parameters}`
    for (const url of [
      urlOf([primary, standby]),
      urlOf([standby, primary]),
      urlOf([away, standby, primary], '?target_session_attrs=read-write'),
      urlOf([standby, away, primary], '?target_session_attrs=primary&connect_timeout=2'),
      `postgres://postgres@/postgres?host=127.0.0.1,127.0.0.1&port=${standby},${primary}`,
    ]) {
      assert.equal((await seenFrom(url)).port, primary, url)
    }

    await assert.rejects(
      open(urlOf([away, standby])),
      (error: Error) =>
        error.message ===
        `cannot reach the database postgres://127.0.0.1:${away},127.0.0.1:${standby}/postgres: ` +
          `127.0.0.1:${away}: connect ECONNREFUSED 127.0.0.1:${away}; 127.0.0.1:${standby}: this server is a standby`,
    )

    const database = await opened(t, urlOf([primary, standby]))
    const create = { sql: 'create table doors (name text)', values: [] }
    await database.step(create)
    const heard: string[] = []
    database.listen('door', (key) => heard.push(key))
    await pair.setSynchronous(true)
    await database.step({ sql: "insert into doors values ('before') returning name", values: [] })
    await pair.endPrimary('killed')
    await pair.promote()
    const rows = () => database.read<{ name: string }>('select name from doors')
    await until(async () => (await rows().catch(() => [])).length > 0)
    assert.deepEqual(await rows(), [{ name: 'before' }])
    await until(() => database.listening)
    assert.deepEqual(heard, [''], 'announcements may have been missed')
    const insert = { sql: "insert into doors values ('after') returning name", values: [] }
    await database.step(insert, { announce: [{ topic: 'door', key: 'a' }] })
    await until(() => heard.length > 1)
    assert.deepEqual(heard, ['', 'a'])
  })

  test('if a server refuses the user, no other host is tried, and the error is that of this server', async (t) => {
    const [one, other] = await Promise.all([startPostgres(), startPostgres()])
    t.after(() => Promise.all([one.stop(), other.stop()]))
    const url = `postgres://nobody-of-this-name@127.0.0.1:${portOf(one.url)},127.0.0.1:${portOf(other.url)}/postgres`
    await assert.rejects(open(url), /\/postgres: role "nobody-of-this-name" does not exist$/)
  })
})

describe('a unix socket', () => {
  let server: PostgresServer
  before(async () => {
    server = await startPostgres({ hasSocket: true })
  })
  after(() => server.stop())

  test('is used in every form in which libpq accepts its folder', async () => {
    const { folder, url } = server
    const port = portOf(url)
    for (const address of [
      `postgres:///postgres?host=${folder}&port=${port}&user=postgres`,
      `postgres://postgres@${encodeURIComponent(folder)}:${port}/postgres`,
      `postgresql://postgres@/?dbname=postgres&host=${encodeURIComponent(folder)}&port=${port}`,
      `postgres://postgres@/postgres?host=/no/such/folder,${folder}&port=${port}`,
      `postgres:///postgres?host=${folder}&port=${port}&user=postgres&sslmode=require`,
    ]) {
      assert.deepEqual(await seenFrom(address), { ssl: 0, port: null }, address)
    }
  })

  test('that does not exist is named in the error', async () => {
    await assert.rejects(
      open('postgres:///postgres?host=/no/such/folder&user=postgres'),
      /^Error: cannot reach the database postgres:\/\/\/postgres\?host=\/no\/such\/folder: .*ENOENT .*\.s\.PGSQL\.5432/,
    )
  })
})

describe('sslmode', () => {
  let authority: Certified
  let folder: string
  let server: PostgresServer
  /** A server whose certificate is not for this machine. */
  let misnamed: PostgresServer
  let plain: PostgresServer
  /** A server that accepts only connections with TLS, and only with a certificate for the user `ana`. */
  let strict: PostgresServer

  before(async () => {
    authority = await certify({ subject: 'CN=Database authority', isAuthority: true })
    const other = await certify({ subject: 'CN=Other authority', isAuthority: true })
    const names = [{ type: 'ip', value: '127.0.0.1' } as const, { type: 'dns', value: 'localhost' } as const]
    const tls = await certify({ subject: 'CN=localhost', names, by: authority })
    const elsewhere = await certify({
      subject: 'CN=db.example.com',
      names: [{ type: 'dns', value: 'db.example.com' }],
      by: authority,
    })
    const client = await certify({ subject: 'CN=postgres', by: authority })
    folder = await mkdtemp(join(tmpdir(), 'doorbell-tls-'))
    const files = { 'ca.pem': authority.cert, 'other.pem': other.cert, 'me.pem': client.cert, 'me.key': client.key }
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
    ;[server, misnamed, plain, strict] = await Promise.all([
      startPostgres({ tls }),
      startPostgres({ tls: elsewhere }),
      startPostgres(),
      startPostgres({
        tls: { ...tls, clientCa: authority.cert },
        access: 'hostssl all all 127.0.0.1/32 cert\n',
      }),
    ])
  })
  after(async () => {
    await Promise.all([server, misnamed, plain, strict].map((each) => each.stop()))
    await rm(folder, { recursive: true, force: true })
  })

  const at = ({ url }: PostgresServer, parameters: string) => `${url}?${parameters.replaceAll('%', `${folder}/`)}`

  test('decides whether a connection is encrypted, as in libpq', async () => {
    const cases: [PostgresServer, string, 0 | 1][] = [
      [server, 'sslmode=disable', 0],
      [server, 'sslmode=allow', 0],
      [server, 'sslmode=prefer', 1],
      [server, 'sslmode=require', 1],
      [server, 'sslmode=no-verify', 1],
      [server, 'ssl=true', 1],
      [server, 'sslmode=require&sslrootcert=%ca.pem', 1],
      [server, 'sslmode=verify-ca&sslrootcert=%ca.pem', 1],
      [server, 'sslmode=verify-full&sslrootcert=%ca.pem', 1],
      [server, 'sslmode=require&uselibpqcompat=true', 1],
      [misnamed, 'sslmode=require&sslrootcert=%ca.pem', 1],
      [misnamed, 'sslmode=verify-ca&sslrootcert=%ca.pem', 1],
      [plain, 'sslmode=disable', 0],
      [plain, 'sslmode=allow', 0],
      [plain, 'sslmode=prefer', 0],
      [strict, 'sslmode=allow&sslcert=%me.pem&sslkey=%me.key', 1],
      [strict, 'sslmode=verify-full&sslrootcert=%ca.pem&sslcert=%me.pem&sslkey=%me.key', 1],
    ]
    for (const [where, parameters, ssl] of cases) {
      assert.equal((await seenFrom(at(where, parameters))).ssl, ssl, parameters)
    }
    assert.equal((await seenFrom(server.url)).ssl, 0, 'within this machine, without a parameter')
  })

  test('refuses a server that does not prove what the mode demands, and says why', async () => {
    const cases: [PostgresServer, string, RegExp][] = [
      [plain, 'sslmode=require', /: The server does not support SSL connections$/],
      [server, 'sslmode=require&sslrootcert=%other.pem', /: unable to verify|: self.signed|: unable to get/],
      [server, 'sslmode=verify-ca&sslrootcert=%other.pem', /: unable to verify|: self.signed|: unable to get/],
      [server, 'sslmode=verify-full', /: unable to verify|: self.signed|: unable to get/],
      [server, 'sslmode=verify-full&sslrootcert=system', /: unable to verify|: self.signed|: unable to get/],
      [misnamed, 'sslmode=verify-full&sslrootcert=%ca.pem', /: Hostname\/IP does not match certificate's altnames/],
      [server, 'sslmode=verify-ca', /^the database URL has sslmode=verify-ca, which needs sslrootcert: a file/],
      [
        server,
        'sslmode=verify-full&sslrootcert=%none.pem',
        /^the database URL has sslrootcert .*none\.pem, .*: ENOENT$/,
      ],
      [strict, 'sslmode=disable', /: no pg_hba.conf entry for host "127.0.0.1", .*no encryption$/],
      [strict, 'sslmode=require', /: connection requires a valid client certificate$/],
    ]
    for (const [where, parameters, reason] of cases) {
      await assert.rejects(open(at(where, parameters)), (error: Error) => {
        assert.match(error.message, reason, parameters)
        return true
      })
    }
  })

  test('a renewed client certificate is used for new connections, without a restart', async (t) => {
    const renew = async (certificate: Certified) => {
      await writeFile(join(folder, 'renewed.pem'), certificate.cert)
      await writeFile(join(folder, 'renewed.key'), certificate.key)
    }
    const newCertificate = () => certify({ subject: 'CN=postgres', by: authority })
    await renew(await newCertificate())
    const parameters = 'sslmode=verify-full&sslrootcert=%ca.pem&sslcert=%renewed.pem&sslkey=%renewed.key'
    const database = await opened(t, at(strict, parameters))
    const endConnections = async () => {
      const others = "pid <> pg_backend_pid() and application_name = 'doorbell'"
      await database.read(`select pg_terminate_backend(pid) from pg_stat_activity where ${others}`)
      await assert.rejects(database.read('select pg_terminate_backend(pg_backend_pid())'))
    }
    /** The serial number of the certificate of a connection. */
    const serial = async () => {
      const own = 'select cast(client_serial as text) as serial from pg_stat_ssl where pid = pg_backend_pid()'
      const [row] = await database.read<{ serial: string }>(own)
      return row!.serial
    }
    const first = await serial()
    await renew(await newCertificate())
    assert.equal(await serial(), first, 'a connection keeps its certificate')
    await endConnections()
    const second = await serial()
    assert.notEqual(second, first)
    // The certificate is renewed before its key. Connections fail until the key is renewed too.
    const third = await newCertificate()
    await writeFile(join(folder, 'renewed.pem'), third.cert)
    await endConnections()
    await assert.rejects(serial(), /key values mismatch/)
    await renew(third)
    assert.ok(![first, second].includes(await serial()))
    await until(() => database.listening)
  })

  test('a host without TLS is passed over for one with it', async () => {
    const both = `127.0.0.1:${portOf(plain.url)},127.0.0.1:${portOf(server.url)}`
    const url = `postgres://postgres@${both}/postgres?sslmode=verify-full&sslrootcert=${folder}/ca.pem`
    assert.deepEqual(await seenFrom(url), { ssl: 1, port: portOf(server.url) })
  })
})

test('a process opens as many connections as it is told, and one that listens', async (t) => {
  const { url, drop } = await freshPostgres()
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock, connections: 3 })
  t.after(async () => {
    await database.close()
    await drop()
  })
  const sessions = '(select count(*) from pg_stat_activity where datname = current_database()) as n'
  const counts = await Promise.all(
    Array.from({ length: 12 }, () => database.read<{ n: number }>(`select ${sessions}, cast(pg_sleep(0.1) as text)`)),
  )
  assert.equal(Math.max(...counts.map(([row]) => row!.n)), 4)
})
