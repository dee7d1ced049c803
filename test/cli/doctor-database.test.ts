/** `doorbell doctor`: a database that cannot be used, and what to do about it. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { newSecret } from '../../src/platform/crypto.ts'
import { freePort } from '../support/ports.ts'
import { freshPostgres } from '../support/postgres.ts'
import { openTerminal, type Terminal } from './terminal.ts'

interface Finding {
  about: string
  state: string
  says: string
  advice?: string
}

/** Lets no SQLite database grow any more, as on a full disk: a row that needs a new page is refused (SQLITE_FULL). */
const fullDisk = `import { DatabaseSync } from 'node:sqlite'
const { prepare, exec } = DatabaseSync.prototype
const limited = new WeakSet()
for (const [name, method] of Object.entries({ prepare, exec })) {
  DatabaseSync.prototype[name] = function (...given) {
    if (!limited.has(this)) exec.call(this, 'pragma max_page_count = 1')
    limited.add(this)
    return method.apply(this, given)
  }
}`

test('a full disk: doctor finds it, and a command says what to do', async (t) => {
  const terminal = await terminalOn(t, 'sqlite:./doorbell.db')
  await terminal.run(['user', 'add', '--username', 'ana'])
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(fullDisk)}` }
  const [failure, ...more] = await failuresIn(terminal, env)
  assert.deepEqual(more, [])
  assert.match(failure!.says, /^the database accepts no changes: .*full/)
  assert.match(failure!.advice!, /^the disk of the database is full: free some space/)
  const long = 'x'.repeat(200)
  const codes = []
  for (let number = 0; number < 40 && codes.at(-1) !== 1; number += 1) {
    const added = await terminal.run(['user', 'add', '--username', `${number}${long}`, '--name', long], { env })
    codes.push(added.code)
    if (added.code === 1) {
      assert.match(added.stderr, /full\.\nThe disk of the database is full: free some space/)
      assert.doesNotMatch(added.stderr, /doctor/)
    }
  }
  assert.equal(codes.at(-1), 1)
  assert.deepEqual(await failuresIn(terminal), [], 'there is space again')
})

test('a Postgres that accepts no changes: doctor finds it, and a command says what to do', async (t) => {
  const { url, drop } = await freshPostgres()
  t.after(drop)
  const terminal = await terminalOn(t, url)
  await terminal.run(['migrate'])
  assert.deepEqual(await failuresIn(terminal), [])
  await as(url, (administrator) =>
    administrator.query(`alter database ${new URL(url).pathname.slice(1)} set default_transaction_read_only = on`),
  )
  const [failure, ...more] = await failuresIn(terminal)
  assert.deepEqual(more, [])
  assert.match(failure!.says, /^the database accepts no changes: .*read-only/)
  assert.match(failure!.advice!, /^Postgres accepts no changes\. .*default_transaction_read_only/)
  const added = await terminal.run(['user', 'add', '--username', 'ana'])
  assert.equal(added.code, 1)
  assert.match(added.stderr, /\nPostgres accepts no changes\./)
})

test('a Postgres that refuses the connection: advice by the reason', async (t) => {
  const { url, drop } = await freshPostgres()
  const role = `narrow_${new URL(url).pathname.slice(-8)}`
  await as(url, (administrator) => administrator.query(`create role ${role} login password 'hush' connection limit 0`))
  t.after(async () => {
    await as(url, (administrator) => administrator.query(`drop role ${role}`))
    await drop()
  })
  const changed = (parts: object) => Object.assign(new URL(url), parts).href
  for (const [address, says, advice] of [
    [changed({ pathname: '/nowhere' }), /does not exist/, /^create the database, or correct/],
    [changed({ username: role, password: 'hush' }), /too many connections/, /^Postgres has no connection left/],
    [changed({ port: await freePort() }), /./, /^no database listens there/],
    [changed({ hostname: 'nowhere.invalid' }), /./, /^the host in "database" .* is not known/],
  ] as const) {
    const terminal = await terminalOn(t, address)
    const [failure] = await failuresIn(terminal)
    assert.match(failure!.says, says)
    assert.match(failure!.advice!, advice)
    assert.match((await terminal.run(['migrate'])).stderr, new RegExp(advice.source, 'im'))
  }
})

async function terminalOn(t: TestContext, database: string): Promise<Terminal> {
  const terminal = await openTerminal(t, { DOORBELL_SECRET: newSecret(), DOORBELL_DATABASE: database })
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify({ issuer: 'https://nowhere.invalid' }))
  return terminal
}

async function failuresIn(terminal: Terminal, env: Record<string, string> = {}): Promise<Finding[]> {
  const { findings } = (await terminal.json(['doctor'], { env })) as { findings: Finding[] }
  return findings.filter(({ state }) => state === 'fail')
}

async function as(url: string, work: (administrator: Client) => Promise<unknown>): Promise<void> {
  const administrator = new Client(url)
  await administrator.connect()
  await work(administrator)
  await administrator.end()
}
