import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { Client } from 'pg'
import { certifyServer } from '../support/certificates.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { freePort } from '../support/ports.ts'
import { freshPostgres, startPostgres } from '../support/postgres.ts'
import { openTerminal, type Terminal } from './terminal.ts'

const configure = (terminal: Terminal, config: object) =>
  writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))

function answers(port: number): Promise<boolean> {
  return fetch(`http://localhost:${port}/health/live`).then(
    () => true,
    () => false,
  )
}

test('an invalid configuration: all problems are reported, and no server starts', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  await configure(terminal, { port, isuer: 'x', requests: { interval: 0 }, clients: [{ client_id: 'till' }] })
  const { code, stdout, stderr } = await terminal.run(['serve'])
  assert.equal(code, 1)
  assert.equal(stdout, '')
  assert.match(stderr, /^ {2}- isuer is not a setting; did you mean issuer\?$/m)
  assert.match(stderr, /^ {2}- requests\.interval must be/m)
  assert.match(stderr, /^ {2}- clients\[0\]\.client_secret is missing/m)
  assert.doesNotMatch(stderr, /^ +at /m)
  assert.equal(await answers(port), false)
})

test('without a configuration, the error says what to do', async (t) => {
  const terminal = await openTerminal(t)
  const { code, stderr } = await terminal.run(['serve'])
  assert.equal(code, 1)
  assert.match(stderr, /issuer is missing/)
  assert.match(stderr, /doorbell init/)
})

test('a port in use is reported with advice', async (t) => {
  const terminal = await openTerminal(t)
  const port = String(await freePort())
  await terminal.serve(['--demo', '--port', port])
  const env = { DOORBELL_DATABASE: 'sqlite:./another.db' }
  const { code, stderr } = await terminal.run(['serve', '--demo', '--port', port], { env })
  assert.equal(code, 1)
  assert.match(stderr, new RegExp(`Port ${port} on 127\\.0\\.0\\.1 is in use\\..*--port`))
  assert.doesNotMatch(stderr, /^ +at /m)
})

test('the files of init can be served, and --port also changes the port of the issuer', async (t) => {
  const terminal = await openTerminal(t)
  const first = await terminal.run(['init'])
  assert.equal(first.code, 0, first.stderr)
  assert.match(first.stdout, /Next:/)
  const second = await terminal.run(['init'])
  assert.equal(second.code, 1)
  assert.match(second.stderr, /are here already; nothing was written/)
  assert.equal((await terminal.run(['init', '--force'])).code, 0)

  const port = await freePort()
  await terminal.serve(['--port', String(port)])
  const metadata = await fetch(`http://localhost:${port}/.well-known/openid-configuration`)
  assert.equal(((await metadata.json()) as { issuer: string }).issuer, `http://localhost:${port}`)
})

test('init adds files with secrets to .gitignore once, and reports it; and a file that Git tracks all the same', async (t) => {
  const terminal = await openTerminal(t)
  assert.doesNotMatch((await terminal.run(['init'])).stdout, /gitignore/, 'outside of a repository')
  const git = (...words: string[]) => execFileSync('git', words, { cwd: terminal.cwd, encoding: 'utf8' })
  git('init', '--quiet')
  const ignore = join(terminal.cwd, '.gitignore')
  writeFileSync(ignore, 'node_modules\n/.env')
  const first = await terminal.run(['init', '--force'])
  assert.match(first.stdout, /^Added to \.gitignore: \.env\.example, doorbell\.db\*\.$/m)
  assert.doesNotMatch((await terminal.run(['init', '--force'])).stdout, /gitignore/)
  assert.equal(readFileSync(ignore, 'utf8'), 'node_modules\n/.env\n.env.example\ndoorbell.db*\n')
  assert.doesNotMatch(git('status', '--porcelain'), /env/)

  git('add', '--force', '.env.example')
  chmodSync(join(terminal.cwd, '.env.example'), 0o644)
  assert.match((await terminal.run(['init', '--force'])).stderr, /Git tracks \.env\.example/)
  assert.equal(statSync(join(terminal.cwd, '.env.example')).mode & 0o777, 0o600)
  git('rm', '--quiet', '--cached', '--force', '.env.example')
  writeFileSync(ignore, '.env*\ndoorbell.db*\n!.env.example\n')
  assert.match((await terminal.run(['init', '--force'])).stdout, /^Added to \.gitignore: \.env\.example\.$/m)
  assert.doesNotMatch(git('status', '--porcelain'), /env/, 'a former line allowed it')
})

test('init reports an existing database', async (t) => {
  const terminal = await openTerminal(t)
  assert.doesNotMatch((await terminal.run(['init'])).stdout, /is here already/)
  await terminal.serve(['--port', String(await freePort())])
  assert.match((await terminal.run(['init', '--force'])).stdout, /The database doorbell\.db is here already/)
})

test('an old schema on Postgres is refused until migrate has run', async (t) => {
  const { url, drop } = await freshPostgres()
  t.after(drop)
  const terminal = await openTerminal(t, { DOORBELL_DATABASE: url })
  const port = await freePort()
  await configure(terminal, { port, development: true })

  const early = await terminal.run(['serve'])
  assert.equal(early.code, 1)
  assert.match(
    early.stderr,
    /^The database has no tables yet: run "doorbell migrate" with the configuration of this server/m,
  )
  assert.doesNotMatch(early.stderr, /^ +at /m)
  assert.equal(await answers(port), false)
  assert.match((await terminal.run(['requests'])).stderr, /has no tables yet/)
  assert.equal((await terminal.run(['doctor'])).code, 1)

  const before = await terminal.json(['migrate', '--status'])
  assert.deepEqual(before.applied, [])
  const migrated = await terminal.run(['migrate'])
  assert.equal(migrated.code, 0, migrated.stderr)
  assert.match(migrated.stdout, /Applied 0001_/)
  assert.match((await terminal.run(['migrate'])).stdout, /Nothing to do/)
  assert.deepEqual((await terminal.json(['migrate', '--status'])).pending, [])

  const server = await terminal.serve([])
  assert.equal(await answers(port), true)
  assert.match((await terminal.run(['keys'])).stdout, /ES256/)
  server.process.kill('SIGTERM')
  assert.equal((await server.ended).code, 0)
})

test('--migrate migrates the database at the start', async (t) => {
  const { url, drop } = await freshPostgres()
  t.after(drop)
  const terminal = await openTerminal(t, { DOORBELL_DATABASE: url })
  const port = await freePort()
  const server = await terminal.serve(['--demo', '--migrate', '--port', String(port)])
  assert.equal(await answers(port), true)
  server.process.kill('SIGINT')
  assert.equal((await server.ended).code, 0)
})

test('a server writes only JSON, even if a library warns about sslmode or about a password file', async (t) => {
  const tls = (await certifyServer()).server
  const access = 'local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n'
  const database = await startPostgres({ tls, access, hasSocket: true })
  t.after(() => database.stop())
  const { port: databasePort } = new URL(database.url)
  const socket = `postgres:///postgres?user=postgres&host=${database.folder}&port=${databasePort}`
  const client = new Client({ host: database.folder, port: Number(databasePort), user: 'postgres' })
  await client.connect()
  await client.query("alter role postgres password 'hunter2'")
  await client.end()
  const terminal = await openTerminal(t)
  const passwords = join(terminal.cwd, 'passwords')
  writeFileSync(passwords, '127.0.0.1:*:*:postgres:hunter2\n', { mode: 0o600 })
  const environments: Record<string, string>[] = [
    { DOORBELL_DATABASE: socket },
    { DOORBELL_DATABASE: `${database.url}?sslmode=prefer`, PGPASSFILE: passwords },
    { DOORBELL_DATABASE: `${database.url.replace('@', ':hunter2@')}?sslmode=require` },
    { DOORBELL_DATABASE: database.url.replace('@', ':hunter2@'), PGSSLMODE: 'require' },
    { DOORBELL_DATABASE: database.url, PGPASSWORD: 'hunter2' },
  ]
  for (const env of environments) {
    const port = await freePort()
    const server = await terminal.serve(['--demo', '--migrate', '--port', String(port)], { env })
    server.process.kill('SIGTERM')
    const { code, stderr } = await server.ended
    assert.equal(code, 0)
    for (const line of stderr.trim().split('\n')) assert.doesNotThrow(() => JSON.parse(line), line)
    assert.equal(stderr.includes('process.warning'), env.PGPASSFILE !== undefined)
  }
})

test('SIGTERM: even with hanging connections the server exits with 0 in time, and releases its leases', async (t) => {
  const bank = await openNotificationEndpoint(t)
  bank.behaves('hang')
  const terminal = await openTerminal(t)
  const port = await freePort()
  await configure(terminal, {
    port,
    development: true,
    notifications: { timeout: 60 },
    clients: [
      {
        client_id: 'bank',
        client_secret: 'a-secret-of-the-bank',
        backchannel_token_delivery_mode: 'push',
        backchannel_client_notification_endpoint: bank.url,
      },
      { client_id: 'phones', client_secret: 'a-secret-of-the-phones', backchannel_device_service: true },
    ],
    users: [{ username: 'ana' }],
  })
  const server = await terminal.serve([])
  const authorization = `Basic ${Buffer.from('bank:a-secret-of-the-bank').toString('base64')}`
  const response = await fetch(`http://localhost:${port}/backchannel/authorize`, {
    method: 'POST',
    headers: { authorization },
    body: new URLSearchParams({ scope: 'openid', login_hint: 'ana', client_notification_token: 'a'.repeat(32) }),
  })
  assert.equal(response.status, 200)
  assert.equal((await terminal.run(['device', '--user', 'ana', '--approve', 'latest'])).code, 0)
  await bank.hears(1)

  // A request whose body never arrives completely.
  const hanging = connect(port, '127.0.0.1').on('error', () => {})
  t.after(() => hanging.destroy())
  await new Promise<void>((resolve) => {
    hanging.write('POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ngrant_type=', () =>
      resolve(),
    )
  })

  const asked = performance.now()
  server.process.kill('SIGTERM')
  const { code, stderr } = await server.ended
  assert.equal(code, 0, stderr)
  assert.ok(performance.now() - asked < 10_000)

  const { notifications } = await terminal.json(['outbox'])
  const [push] = (notifications as Record<string, unknown>[]).filter(({ kind }) => kind === 'push')
  assert.equal(push?.state, 'waiting')
  assert.equal(push?.attempts, 0)
})

test('a second signal ends the server at once', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const server = await terminal.serve(['--demo', '--port', String(port)])
  const hanging = connect(port, '127.0.0.1').on('error', () => {})
  t.after(() => hanging.destroy())
  await new Promise<void>((resolve) => {
    hanging.write('POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ngrant_type=', () =>
      resolve(),
    )
  })
  // The server has read it when it answers a later call.
  await answers(port)
  server.process.kill('SIGINT')
  await server.says(/server\.stopping/)
  server.process.kill('SIGINT')
  assert.equal((await server.ended).code, 130)
})
