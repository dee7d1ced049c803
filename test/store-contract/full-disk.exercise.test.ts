/**
 * While the disk is full, a node is not ready. It becomes ready when a write succeeds: a write of a call, or of the
 * readiness check itself.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { Database, StepOptions } from '../../src/platform/storage/database.ts'
import { watchingForFullDisk } from '../../src/platform/storage/full-disk.ts'
import { openPostgres } from '../../src/platform/storage/postgres.ts'
import { openSqlite } from '../../src/platform/storage/sqlite.ts'
import { type Engine, engines } from '../support/engines.ts'
import { ask } from '../support/postgres-pair.ts'
import { openStage, type Stage } from '../support/stage.ts'

for (const engine of engines) {
  describe(`a full disk, on ${engine.name}`, () => {
    test('a node is not ready from the first failed write, and ready when its own attempt succeeds', async (t) => {
      const { stage, database, tries, disk } = await opened(t, engine)
      assert.deepEqual(await readiness(stage), [200, undefined])
      await disk.fill()
      assert.deepEqual(await readiness(stage), [503, 'read-only'])
      stage.clock.advance(1_000)
      assert.deepEqual(await readiness(stage), [503, 'read-only'], 'the attempt failed')
      await disk.empty()
      stage.clock.advance(1_000)
      assert.deepEqual(await readiness(stage), [200, undefined])
      assert.equal(tries(), 2)
      assert.deepEqual(await database().read(`select model from oidc_models where model = 'Trial'`), [])
    })

    test('a call that writes makes it ready too, without an attempt', async (t) => {
      const { stage, tries, disk } = await opened(t, engine)
      await disk.fill()
      assert.equal((await readiness(stage))[0], 503)
      await disk.empty()
      assert.equal((await stage.ring('kiosk')).status, 200)
      assert.deepEqual(await readiness(stage), [200, undefined])
      assert.equal(tries(), 0)
    })

    for (const callers of [20, 200]) {
      test(`${callers} checks within a second lead to one attempt; without a full disk to none`, async (t) => {
        const { stage, tries, disk } = await opened(t, engine)
        const all = () => Promise.all(Array.from({ length: callers }, () => readiness(stage)))
        const statusesOf = async () => [...new Set((await all()).map(([status]) => status))]
        assert.deepEqual(await statusesOf(), [200])
        stage.clock.advance(1_000)
        assert.deepEqual(await statusesOf(), [200])
        assert.equal(tries(), 0)
        await disk.fill()
        assert.deepEqual([await statusesOf(), tries()], [[503], 0], 'the failed write is the attempt of this second')
        stage.clock.advance(1_000)
        assert.deepEqual([await statusesOf(), tries()], [[503], 1])
        stage.clock.advance(999)
        assert.deepEqual([await statusesOf(), tries()], [[503], 1])
        stage.clock.advance(1)
        assert.deepEqual([await statusesOf(), tries()], [[503], 2])
      })
    }

    test('a step that changes nothing does not make it ready', async (t) => {
      const { stage, database, disk } = await opened(t, engine)
      await disk.fill()
      await database().step({ sql: `delete from oidc_models where model = 'none' returning id_hash`, values: [] })
      assert.equal((await readiness(stage))[0], 503)
    })
  })
}

async function readiness(stage: Stage) {
  const { status, body } = await stage.get('/health/ready')
  return [status, status === 200 ? undefined : body.database]
}

/** A server, the number of write attempts by its readiness check, and its disk. */
async function opened(t: TestContext, engine: Engine) {
  let database: Database
  let tried = 0
  const stage = await openStage(t, {
    engine,
    parts: {
      workers: false,
      async openDatabase(url, surroundings) {
        const opened = url.startsWith('sqlite:')
          ? openSqlite(url.slice('sqlite:'.length))
          : await openPostgres(url, surroundings)
        const counted: Database = {
          ...opened,
          listening: true,
          step<Row>(first: Parameters<Database['step']>[0], options?: StepOptions<Row>) {
            if (first.sql.includes("'Trial'")) tried += 1
            return opened.step<Row>(first, options)
          },
        }
        database = watchingForFullDisk(counted, surroundings.clock)
        return database
      },
    },
  })
  const disk = engine.name === 'sqlite' ? fileOf(stage, () => database) : tablesOf(stage)
  return { stage, database: () => database, tries: () => tried, disk }
}

/** The file of a SQLite database. `fill` prevents it from growing. */
function fileOf(stage: Stage, database: () => Database) {
  return {
    async fill() {
      const [row] = await database().read<{ page_count: number }>('pragma page_count')
      await database().read(`pragma max_page_count = ${row!.page_count}`)
      // These requests fill the free space of the last pages.
      let answered = 200
      while (answered === 200) answered = (await stage.ring('kiosk')).status
      assert.equal(answered, 503)
    },
    empty: () => database().read('pragma max_page_count = 1000000'),
  }
}

/**
 * Tables that `fill` prevents from growing: each insert fails with the error of Postgres for a file that cannot be
 * extended.
 */
function tablesOf(stage: Stage) {
  const tables = ['backchannel_auth_requests', 'oidc_models']
  const each = (sql: (table: string) => string) => ask(stage.database, tables.map(sql).join(';'))
  return {
    async fill() {
      await ask(
        stage.database,
        `create or replace function fail() returns trigger language plpgsql as $$
           begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$`,
      )
      await each((table) => `create trigger fail before insert on ${table} execute function fail()`)
      assert.equal((await stage.ring('kiosk')).status, 503)
    },
    empty: () => each((table) => `drop trigger fail on ${table}`),
  }
}
