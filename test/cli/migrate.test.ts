/** `doorbell migrate --print`: the SQL that an administrator reviews, and may execute, has the effect of `doorbell migrate`. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { statementsIn } from '../../src/platform/storage/migrate.ts'
import { freshPostgres } from '../support/postgres.ts'
import { openTerminal } from './terminal.ts'

interface Status {
  applied: { name: string; applied_at: string }[]
  pending: string[]
  unknown: string[]
}

interface Target {
  url: string
  /**
   * Executes statements. `checks/printed-migrations` executes them with `psql` and `sqlite3`, also if one of them fails.
   */
  execute(sql: string): Promise<void>
  /** Describes all tables, columns and indexes. */
  schema(): Promise<unknown[]>
}

const engines: Record<string, (t: TestContext) => Promise<Target>> = {
  async SQLite(t) {
    const terminal = await openTerminal(t)
    const file = join(terminal.cwd, 'doorbell.db')
    await writeFile(file, '')
    const onFile = <T>(work: (database: DatabaseSync) => T): T => {
      const database = new DatabaseSync(file)
      try {
        return work(database)
      } finally {
        database.close()
      }
    }
    return {
      url: `sqlite:${file}`,
      // A line such as `.bail on` is for the program `sqlite3`.
      execute: async (sql) => onFile((database) => database.exec(sql.replace(/^\..*$/gm, ''))),
      async schema() {
        const rows = onFile((database) => database.prepare('select name, sql from sqlite_master order by name').all())
        // SQLite keeps the text of a statement; `doorbell migrate` executes it without its comments.
        return rows.map(({ name, sql }) => [name, String(sql).replace(/--.*$/gm, '').replace(/\s+/g, ' ')])
      },
    }
  },
  async Postgres(t) {
    const { url, drop } = await freshPostgres()
    const client = new Client(url)
    await client.connect()
    t.after(async () => {
      await client.end()
      await drop()
    })
    return {
      url,
      execute: async (sql) => void (await client.query(sql)),
      async schema() {
        const columns = `select table_name, column_name, data_type, is_nullable, column_default
          from information_schema.columns where table_schema = 'public' order by 1, ordinal_position`
        const indexes = `select indexname, indexdef from pg_indexes where schemaname = 'public' order by 1`
        return [...(await client.query(columns)).rows, ...(await client.query(indexes)).rows]
      },
    }
  },
}

for (const [engine, open] of Object.entries(engines)) {
  describe(`on ${engine}`, () => {
    test('what is printed builds the schema, and fills the history that the server checks', async (t) => {
      const [printed, migrated] = [await open(t), await open(t)]
      const atPrinted = await openTerminal(t, { DOORBELL_DATABASE: printed.url })
      const sql = await atPrinted.run(['migrate', '--print'])
      assert.equal(sql.code, 0, sql.stderr)
      const status = async () => (await atPrinted.json(['migrate', '--status'])) as unknown as Status
      const { pending, applied } = await status()
      assert.deepEqual([applied, pending[0]], [[], '0001_foundation'], 'nothing was changed yet')
      for (const name of pending) assert.match(sql.stdout, new RegExp(`^-- ${name}\nbegin( immediate)?;\n`, 'm'))

      await printed.execute(sql.stdout)
      const after = await status()
      assert.deepEqual([after.pending, after.unknown], [[], []])
      assert.deepEqual(
        after.applied.map(({ name }) => name),
        pending,
      )
      assert.ok(after.applied.every(({ applied_at }) => Math.abs(Date.parse(applied_at) - Date.now()) < 600_000))

      const atMigrated = await openTerminal(t, { DOORBELL_DATABASE: migrated.url })
      assert.equal((await atMigrated.run(['migrate'])).code, 0)
      assert.deepEqual(await printed.schema(), await migrated.schema())
      assert.equal(
        (await atPrinted.run(['migrate', '--print'])).stdout,
        '-- Nothing to do: the schema is up to date.\n',
      )
      assert.deepEqual(await atPrinted.json(['migrate']), { applied: [] })
    })

    test('a database of a newer version is refused, not called up to date', async (t) => {
      const target = await open(t)
      const terminal = await openTerminal(t, { DOORBELL_DATABASE: target.url })
      assert.equal((await terminal.run(['migrate'])).code, 0)
      await target.execute("insert into doorbell_migrations values (9001, '9001_later', 'x', 1)")
      for (const more of [[], ['--print']]) {
        const { code, stdout, stderr } = await terminal.run(['migrate', ...more])
        assert.deepEqual([code, stdout], [1, ''])
        assert.match(stderr, /newer than this program \(9001_later\)/)
      }
    })

    test('migrations that have been applied are not printed again', async (t) => {
      const target = await open(t)
      const terminal = await openTerminal(t, { DOORBELL_DATABASE: target.url })
      const { sql } = (await terminal.json(['migrate', '--print'])) as { sql: string }
      const end = sql.indexOf('commit;') + 'commit;'.length
      await target.execute(sql.slice(0, end))
      const rest = (await terminal.json(['migrate', '--print'])) as { sql: string }
      assert.ok(rest.sql.endsWith(`${sql.slice(end).trim()}\n`))
      assert.ok(!rest.sql.includes('0001_foundation\n'))
    })
  })
}

test('on Postgres, a program that goes on after an error applies no later migration', async (t) => {
  const target = await engines.Postgres!(t)
  const terminal = await openTerminal(t, { DOORBELL_DATABASE: target.url })
  const sql = async () => ((await terminal.json(['migrate', '--print'])) as { sql: string }).sql
  await target.execute('create table user_generations (x bigint)')
  const errors: string[] = []
  for (const statement of statementsIn(await sql())) {
    await target.execute(statement).catch((error: Error) => void errors.push(error.message))
  }
  assert.match(errors[0]!, /"user_generations" already exists/)
  assert.ok(errors.some((error) => error === 'migration 0021_endings has to be applied before'))
  const { applied, pending } = (await terminal.json(['migrate', '--status'])) as unknown as Status
  assert.equal(applied.at(-1)!.name.slice(0, 4), '0020')
  assert.equal(pending[0], '0021_endings')
  await target.execute('drop table user_generations')
  await target.execute(await sql())
  assert.deepEqual(((await terminal.json(['migrate', '--status'])) as unknown as Status).pending, [])
})

test('there is no way to another schema than that of this version, and the command says why', async (t) => {
  const terminal = await openTerminal(t)
  const { code, stderr } = await terminal.run(['migrate', '--to', '0003_outbox'])
  assert.equal(code, 1)
  assert.match(stderr, /works with the schema of that version only.*\n.*restore the backup/)
})
