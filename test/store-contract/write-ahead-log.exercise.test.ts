/** The write-ahead log of SQLite grows as long as another process reads, and shrinks again afterwards. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

const megabyte = 2 ** 20

/**
 * For each way of reading: begins to read the file, and returns `end`, which stops reading. `turn` is called after each
 * write.
 */
const readers: Record<string, (file: string) => { turn?(): void; end(): void }> = {
  'a transaction': (file) => reading(file),
  'a transaction of a connection that cannot write': (file) => reading(file, { readOnly: true }),
  'two transactions': (file) => {
    const both = [reading(file), reading(file)]
    return { end: () => both.map(({ end }) => end()) }
  },
  'a query whose rows are not read to the end': (file) => {
    const connection = new DatabaseSync(file)
    const rows = connection.prepare('select * from texts').iterate()
    rows.next()
    return {
      end() {
        rows.return?.()
        connection.close()
      },
    }
  },
  'transactions that take turns': (file) => {
    let current = reading(file)
    return {
      turn() {
        const next = reading(file)
        current.end()
        current = next
      },
      end: () => current.end(),
    }
  },
}

for (const [name, begin] of Object.entries(readers)) {
  test(`the log of SQLite shrinks after a long reader: ${name}`, async (t) => {
    const { database, file, write } = await opened(t)
    for (let number = 0; number < 3; number++) await write(1000)
    const { turn, end } = begin(file)
    for (let number = 0; number < 40; number++) {
      await write(megabyte)
      turn?.()
    }
    assert.ok((await sizeOfLog(file)) > 30 * megabyte, 'the reader made the log grow')
    end()
    // The first commit copies the log into the file, the second begins the log again.
    for (let number = 0; number < 3; number++) await write(1000)
    assert.ok((await sizeOfLog(file)) <= 8 * megabyte, `${await sizeOfLog(file)} bytes`)
    const [row] = await database.read<{ number: number }>('select count(*) as number from texts')
    assert.equal(row!.number, 46, 'nothing is lost')
  })
}

async function opened(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-log-'))
  const file = join(folder, 'doorbell.db')
  const database = await openDatabase(`sqlite:${file}`, { log: createLog('silent'), clock: systemClock })
  t.after(async () => {
    await database.close()
    await rm(folder, { recursive: true })
  })
  await database.step({ sql: 'create table texts (number integer primary key, content text)', values: [] })
  const write = (length: number) =>
    database.step({ sql: 'insert into texts (content) values ($1) returning number', values: ['x'.repeat(length)] })
  return { database, file, write }
}

function reading(file: string, options = {}) {
  const connection = new DatabaseSync(file, options)
  connection.exec('begin')
  connection.prepare('select count(*) from texts').get()
  return { end: () => connection.close() }
}

async function sizeOfLog(file: string): Promise<number> {
  return (await stat(`${file}-wal`)).size
}
