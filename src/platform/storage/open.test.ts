import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, mock, test } from 'node:test'
import { type Clock, systemClock } from '../clock.ts'
import { createLog } from '../log.ts'
import { openDatabase } from './open.ts'

const folder = mkdtempSync(join(tmpdir(), 'doorbell-open-'))
after(() => rmSync(folder, { recursive: true }))

const lines: string[] = []
const log = createLog('trace', { write: (line) => void lines.push(line) })
const open = (url: string) => openDatabase(url, { log, clock: systemClock })

test('a SQLite file is created with access for its owner only', async () => {
  for (const url of [`sqlite:${folder}/one.db`, `sqlite://${folder}/two.db`]) {
    const database = await open(url)
    await database.step({ sql: 'create table a (b text)', values: [] })
    assert.equal(database.engine, 'sqlite')
    for (const side of ['', '-wal', '-shm']) {
      assert.equal(statSync(join(folder, `${url.slice(-6)}${side}`)).mode & 0o777, 0o600)
    }
    await database.close()
  }
})

test('a SQLite file that another process uses is waited for, also if the wall clock is set meanwhile', async (t) => {
  const file = join(folder, 'busy.db')
  const other = new DatabaseSync(file)
  // During this transaction, a change of the journal mode fails at once: SQLite does not wait for its own timeout.
  other.exec('create table a (b); begin immediate; select * from a')
  const { steady } = systemClock
  let looks = 0
  mock.method(systemClock as Required<Clock>, 'steady', () => {
    looks += 1
    if (looks === 4) other.exec('commit')
    return steady!()
  })
  let hours = 0
  mock.method(systemClock, 'now', () => Date.now() + 3_600_000 * hours++)
  t.after(() => mock.restoreAll())
  const database = await open(`sqlite:${file}`)
  assert.equal(looks, 4)
  await database.close()
  other.close()
})

test('a database in memory needs no file', async () => {
  const database = await open('sqlite::memory:')
  assert.deepEqual(await database.read('select 1 as one'), [{ one: 1 }])
  await database.close()
})

test('the error for a missing folder says so', async () => {
  await assert.rejects(open(`sqlite:${folder}/no/such/folder.db`), /cannot open the database file .*no such file/)
})

test('the error for an unsupported URL does not repeat the URL', async () => {
  const urls = [
    'mysql://me:hunter2@host/x',
    'hunter2',
    '',
    'sqlite:',
    'sqlite://hunter2/x',
    'postgres://me:hunter2@[/x',
  ]
  for (const url of urls) await assert.rejects(open(url), withoutSecret)
})

test('the error for an unreachable Postgres names it without the password', async () => {
  const port = await unusedPort()
  await assert.rejects(open(`postgres://me:hunter2@localhost:${port}/bell?password=hunter2`), (error: Error) => {
    assert.match(
      error.message,
      new RegExp(`cannot reach the database postgres://localhost:${port}/bell: .*ECONNREFUSED`),
    )
    return withoutSecret(error)
  })
  assert.ok(!lines.join('').includes('hunter2'))
})

function withoutSecret(error: Error): true {
  for (let part: unknown = error; part instanceof Error; part = part.cause) {
    assert.ok(!`${part.stack} ${JSON.stringify(part)}`.includes('hunter2'), part.message)
  }
  return true
}

function unusedPort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
