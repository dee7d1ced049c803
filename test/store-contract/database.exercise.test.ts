/** The guarantees of `Database`, on both engines. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/platform/clock.ts'
import type { Database, Statement, Value } from '../../src/platform/storage/database.ts'
import { migrate, migrationStatus } from '../../src/platform/storage/migrate.ts'
import { engines } from '../support/engines.ts'
import { inTime } from '../support/until.ts'
import { claim, hearing, letters, rest, say, stage } from './doors.ts'

const sound = 'create table sound (a text);\n'

for (const engine of engines) {
  describe(`a database, on ${engine.name}`, () => {
    test('of forty decisions at the same moment, one wins', async (t) => {
      const [one, other] = await stage(t, engine, 2)
      await one.step(say("insert into doors values ('a', 'open', null)"))
      const decisions = Array.from({ length: 40 }, (_, number) => {
        const also = [say('insert into visits values ($1, $2)', 'a', number)]
        return (number % 2 ? one : other).step<{ by: string }>(decide('a', `n${number}`), { also })
      })
      const winners = (await Promise.all(decisions)).flat()
      assert.equal(winners.length, 1)
      assert.deepEqual(await one.read('select name, state, by from doors'), [
        { name: 'a', state: 'closed', by: winners[0]!.by },
      ])
      assert.deepEqual(await one.read('select number from visits'), [{ number: Number(winners[0]!.by.slice(1)) }])
    })

    test('what a step wrote is visible when it resolves, to others too', async (t) => {
      const [one, other] = await stage(t, engine, 2)
      const rows = await one.step(say("insert into doors values ('a', 'open', null) returning name, by"))
      assert.deepEqual(rows, [{ name: 'a', by: null }])
      assert.deepEqual(await other.read('select name from doors'), [{ name: 'a' }])
    })

    test('the rest of a step runs only if its first statement changed a row', async (t) => {
      const [database] = await stage(t, engine)
      const also = [say("insert into visits values ('a', 1)"), say("update visits set number = 2 where door = 'a'")]
      assert.deepEqual(await database.step(decide('a', 'me'), { also }), [])
      assert.deepEqual(await database.read('select * from visits'), [])
      await database.step(say("insert into doors values ('a', 'open', null)"))
      assert.deepEqual(await database.step(decide('a', 'me'), { also }), [{ by: 'me' }])
      assert.deepEqual(await database.read('select * from visits'), [{ door: 'a', number: 2 }])
    })

    test('a step that fails leaves nothing, and other steps of its batch are unharmed', async (t) => {
      const [database] = await stage(t, engine)
      const enter = (name: string, ...also: Statement[]) => {
        return database.step(say("insert into doors values ($1, 'open', null) returning name", name), { also })
      }
      const visit = (name: string) => say('insert into visits values ($1, 1)', name)
      const outcomes = await Promise.allSettled([
        enter('a', visit('a')),
        enter('b', visit('b'), visit('nowhere')),
        enter('c'),
        enter('d', say('this is no sql')),
        enter('e', visit('e')),
        database.step(say("insert into doors values ('f', 'ajar', null)")),
        enter('g'),
      ])
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'],
      )
      assert.equal(await list(database, 'select name as item from doors order by name'), 'a c e g')
      assert.equal(await list(database, 'select door as item from visits order by door'), 'a e')
    })

    test('an announcement arrives after the commit, and only for a step that changed something', async (t) => {
      const [one, other] = await stage(t, engine, 2)
      // SQLite serves one process, so the listener is in the process that announces.
      const listener = engine.name === 'sqlite' ? one : other
      const heard = hearing(listener, 'door')
      const announce = (...keys: string[]) => ({ announce: keys.map((key) => ({ topic: 'door', key })) })
      const also = [say('insert into visits values ($1, 1)', 'a')]
      await one.step(decide('a', 'me'), announce('lost'))
      await one.step(decide('a', 'me'), { also, ...announce('lost with more') })
      await one.step(say("insert into doors values ('a', 'open', null) returning name"), announce('a', 'and more'))
      assert.equal(await heard.next(), 'a')
      assert.deepEqual(await listener.read('select name from doors'), [{ name: 'a' }])
      assert.equal(await heard.next(), 'and more')
      await assert.rejects(one.step(decide('a', 'me'), { ...announce('failed'), ...rest(say('no sql')) }))
      await one.step(decide('a', 'me'), { also, ...announce("it's $1 “closed”") })
      assert.equal(await heard.next(), "it's $1 “closed”")
      assert.deepEqual(await listener.read('select number from visits'), [{ number: 1 }])
      assert.deepEqual(heard.waiting(), [])
    })

    test('several rows are announced once', async (t) => {
      const [database] = await stage(t, engine)
      const heard = hearing(database, 'doors')
      const three = say("insert into doors select value, 'open', null from each($1) returning name", '["a", "b", "c"]')
      const rows = await database.step(three, { announce: [{ topic: 'doors', key: 'three' }] })
      assert.equal(rows.length, 3)
      const changed = say(
        "with open as (select name from doors where state = 'open') update doors set by = 'x' where name in (select name from open) returning name",
      )
      assert.equal((await database.step(changed, { announce: [{ topic: 'doors', key: 'changed' }] })).length, 3)
      assert.equal(await heard.next(), 'three')
      assert.equal(await heard.next(), 'changed')
      assert.deepEqual(heard.waiting(), [])
    })

    test('a removed listener gets nothing more', async (t) => {
      const [database] = await stage(t, engine)
      const deaf = hearing(database, 'door')
      const heard = hearing(database, 'door')
      deaf.stop()
      await database.step(say('select 1 as one'), { announce: [{ topic: 'door', key: 'a' }] })
      assert.equal(await heard.next(), 'a')
      assert.deepEqual(deaf.waiting(), [])
      assert.equal(database.listening, true)
    })

    test('rows hold strings, numbers and nulls', async (t) => {
      const [database] = await stage(t, engine)
      await database.step(say('insert into visits_without_door values ($1, $2)', 7, 1_900_000_000_000))
      const rows = await database.read(
        'select text, number, count(*) as many, sum(number) as total, number = $1 as same, max(null) as missing from visits_without_door group by text, number',
        [1_900_000_000_000],
      )
      const time = 1_900_000_000_000
      assert.deepEqual(rows, [{ text: '7', number: time, many: 1, total: time, same: 1, missing: null }])
    })

    test('a list is a parameter', async (t) => {
      const [database] = await stage(t, engine)
      await database.step(say("insert into doors select each.value, 'open', $2 from each($1)", '["a", "b", "c"]', 'me'))
      const some = 'select name as item from doors where name in (select value from each($1)) order by name'
      assert.equal(await list(database, some, JSON.stringify(['c', 'a', "d'"])), 'a c')
      assert.equal(await list(database, some, '[]'), '')
      const numbers = 'select cast(value as bigint) + 1 as item from each($1)'
      assert.equal(await list(database, numbers, '[1, 2]'), '2 3')
    })

    test('workers that claim at once get different rows', async (t) => {
      const [one, other] = await stage(t, engine, 2)
      await one.step(say("insert into doors select value, 'open', null from each($1)", JSON.stringify(letters)))
      const claimed = await Promise.all(
        ['p', 'q', 'r', 's'].map((by, index) => (index % 2 ? one : other).step<{ name: string }>(claim(by))),
      )
      assert.deepEqual(
        claimed.map((rows) => rows.length),
        [5, 5, 5, 5],
      )
      assert.deepEqual(
        claimed
          .flat()
          .map(({ name }) => name)
          .sort(),
        letters,
      )
    })

    test('closing waits for what is running; after that nothing runs', async (t) => {
      const [database, other] = await stage(t, engine, 2)
      const steps = letters.map((name) => {
        const also = [say('insert into visits values ($1, 1)', name)]
        return database.step(say("insert into doors values ($1, 'open', null) returning name", name), { also })
      })
      await Promise.all([database.close(), database.close()])
      assert.equal((await other.read('select * from visits')).length, letters.length)
      await Promise.all(steps)
      await assert.rejects(database.step(say('select 1')), /the database is closed/)
      await assert.rejects(database.read('select 1'), /the database is closed/)
    })

    test('exclusive work runs one at a time and as a whole, whatever else runs', async (t) => {
      const [one, other] = await stage(t, engine, 2)
      const begun = Promise.withResolvers<void>()
      const go = Promise.withResolvers<void>()
      const failing = one.exclusively(async (run) => {
        await run("insert into visits_without_door values ('exclusive', $1)", [1])
        begun.resolve()
        await go.promise
        throw new Error('no')
      })
      await inTime(begun.promise, () => 'the exclusive work')
      const beside = one.step(say("insert into doors values ('a', 'open', null)"))
      const reading = one.read('select * from visits_without_door')
      const next = one.exclusively((run) => run("insert into visits_without_door values ('next', 2) returning number"))
      go.resolve()
      await assert.rejects(failing, /^Error: no$/)
      assert.deepEqual(await next, [{ number: 2 }])
      await beside
      await reading
      assert.equal(await list(other, 'select text as item from visits_without_door'), 'next')
      assert.equal(await list(other, 'select name as item from doors'), 'a')
    })

    test('migrations are applied once, in order, and the status shows it', async (t) => {
      const [database] = await stage(t, engine)
      const folder = await migrations(t, { '0001_first': 'create table first (a text);\n', '0002_second': sound })
      assert.deepEqual(await migrationStatus(database, folder), {
        applied: [],
        pending: ['0001_first', '0002_second'],
        unknown: [],
      })
      assert.deepEqual(await migrate(database, systemClock, folder), ['0001_first', '0002_second'])
      assert.deepEqual(await migrate(database, systemClock, folder), [])
      const older = await migrations(t, { '0001_first': 'create table first (a text);\r\n', '0003_third': sound })
      const { applied, pending, unknown } = await migrationStatus(database, older)
      assert.deepEqual(
        applied.map(({ number, name }) => ({ number, name })),
        [
          { number: 1, name: '0001_first' },
          { number: 2, name: '0002_second' },
        ],
      )
      assert.deepEqual([pending, unknown], [['0003_third'], ['0002_second']])
    })

    test('a migration that fails leaves nothing behind', async (t) => {
      const [database] = await stage(t, engine)
      const folder = await migrations(t, {
        '0001_first': 'create table first (a text);\n',
        '0002_broken': "create table second (a text);\ninsert into first values ('x');\ncreate tabel third;\n",
      })
      await assert.rejects(migrate(database, systemClock, folder), /migration 0002_broken failed: .*tabel/)
      const { applied, pending } = await migrationStatus(database, folder)
      assert.deepEqual([applied.map(({ name }) => name), pending], [['0001_first'], ['0002_broken']])
      await assert.rejects(database.read('select * from second'))
      assert.deepEqual(await database.read('select * from first'), [])
      await writeFile(join(folder, '0002_broken.sql'), sound)
      assert.deepEqual(await migrate(database, systemClock, folder), ['0002_broken'])
    })

    test('a migration that was changed after it had been applied is reported by name', async (t) => {
      const [database] = await stage(t, engine)
      const folder = await migrations(t, { '0001_first': sound })
      await migrate(database, systemClock, folder)
      await writeFile(join(folder, '0001_first.sql'), `${sound}-- a thought\n`)
      await assert.rejects(migrate(database, systemClock, folder), /migration 0001_first was changed/)
    })

    test('two processes that migrate at the same moment apply each migration once', async (t) => {
      const { url, drop } = await engine.fresh()
      t.after(drop)
      const names = Array.from({ length: 12 }, (_, index) => `${String(index + 1).padStart(4, '0')}_table`)
      const folder = await migrations(
        t,
        Object.fromEntries(names.map((name) => [name, `create table t${name} (a text);\n`])),
      )
      const processes = [migrating(url, folder), migrating(url, folder)]
      await Promise.all(processes.map((one) => one.ready()))
      const applied = await Promise.all(processes.map((one) => one.go()))
      assert.deepEqual(applied.flat().sort(), names)
    })
  })
}

function decide(name: string, by: string): Statement {
  return say("update doors set state = 'closed', by = $2 where name = $1 and state = 'open' returning by", name, by)
}

async function list(database: Database, sql: string, ...values: Value[]): Promise<string> {
  const rows = await database.read<{ item: Value }>(sql, values)
  return rows.map(({ item }) => item).join(' ')
}

async function migrations(t: TestContext, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-migrations-'))
  t.after(() => rm(folder, { recursive: true }))
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(folder, `${name}.sql`), text)))
  return folder
}

function migrating(url: string, folder: string) {
  const program = fileURLToPath(new URL('../support/migrating.ts', import.meta.url))
  const child = spawn(process.execPath, [program, url, folder], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const ended = once(child, 'exit')
  const nextLine = async (awaited: string) => (await inTime(lines.next(), () => awaited)).value
  return {
    async ready(): Promise<void> {
      assert.equal(await nextLine('a process that is ready to migrate'), 'ready')
    },
    async go(): Promise<string[]> {
      child.stdin.end('go\n')
      const value = await nextLine('the migrations that a process has applied')
      assert.deepEqual(await inTime(ended, () => 'the end of a migrating process'), [0, null])
      return JSON.parse(value ?? '[]')
    },
  }
}
