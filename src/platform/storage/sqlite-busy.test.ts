/** Tests steps and reads while another process holds the write lock of a SQLite file. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setImmediate as turnOfLoop } from 'node:timers/promises'
import { createStageClock } from '../../../test/support/clock.ts'
import { longestWaitMs } from './lock-queue.ts'
import { openSqlite } from './sqlite.ts'
import { isDatabaseUnavailable } from './unavailable.ts'

const adding = (name: string) => ({ sql: 'insert into things (name) values ($1) returning name', values: [name] })

async function open(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-busy-'))
  const path = join(folder, 'doorbell.db')
  const clock = createStageClock()
  const database = openSqlite(path, { clock })
  await database.exclusively((run) => run('create table things (name text not null)'))
  const other = new DatabaseSync(path)
  t.after(async () => {
    other.close()
    await database.close()
    await rm(folder, { recursive: true, force: true })
  })
  const settled: string[] = []
  /** Adds a row, and records in `settled` whether this succeeded. Resolves to the error if it failed. */
  async function add(name: string): Promise<unknown> {
    try {
      await database.step(adding(name))
      settled.push(name)
    } catch (error) {
      settled.push(`${name} failed`)
      return error
    }
  }
  const names = async () => (await database.read<{ name: string }>('select name from things')).map(({ name }) => name)
  return { clock, database, other, add, names, settled }
}

test('steps wait while the process goes on and reads, and are executed in order when the lock is free', async (t) => {
  const { other, add, names, settled } = await open(t)
  other.exec('begin immediate')
  const steps = [add('one'), add('two')]
  await turnOfLoop()
  steps.push(add('three'))
  for (let turns = 0; turns < 100; turns++) {
    await turnOfLoop()
    assert.deepEqual(await names(), [])
  }
  assert.deepEqual(settled, [])
  other.exec('rollback')
  await Promise.all(steps)
  assert.deepEqual(settled, ['one', 'two', 'three'])
  assert.deepEqual(await names(), settled)
})

test('a step that has waited for five seconds fails as unavailable, and changes nothing; later steps still wait', async (t) => {
  const { clock, other, add, names, settled } = await open(t)
  other.exec('begin immediate')
  const early = add('early')
  clock.advance(longestWaitMs - 1)
  const late = add('late')
  for (let turns = 0; turns < 100; turns++) await turnOfLoop()
  assert.deepEqual(settled, [])
  clock.advance(1)
  assert.ok(isDatabaseUnavailable(await early))
  assert.deepEqual(settled, ['early failed'])
  other.exec('rollback')
  await late
  assert.deepEqual(await names(), ['late'])
})

test('a database that closes first executes the steps that wait', async (t) => {
  const { database, other, add, settled } = await open(t)
  other.exec('begin immediate')
  const step = add('one')
  await turnOfLoop()
  const closed = database.close()
  for (let turns = 0; turns < 100; turns++) await turnOfLoop()
  assert.deepEqual(settled, [])
  other.exec('rollback')
  await Promise.all([step, closed])
  assert.deepEqual(settled, ['one'])
  assert.equal(Number(other.prepare('select count(*) as count from things').get()!.count), 1)
})
