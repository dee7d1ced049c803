/**
 * Executes the SQL of `doorbell migrate --print` with the programs `sqlite3` and `psql`. First, a table is in the way of
 * a migration in the middle. Neither this migration nor a later one may be applied. Without this table, all are applied.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freshPostgres } from '../../test/support/postgres.ts'

interface Target {
  /** The value of `DOORBELL_DATABASE`. */
  database: string
  program: string
  words: string[]
  /** Whether the program says by its exit code that a statement failed. */
  reportsErrors: boolean
}

const obstacle = { create: 'create table user_generations (x bigint);\n', drop: 'drop table user_generations;\n' }
const obstructed = '0021_endings'

const folder = await mkdtemp(join(tmpdir(), 'printed-migrations-'))
const doorbell = fileURLToPath(new URL('../../bin/doorbell.js', import.meta.url))

async function check(what: string, { database, program, words, reportsErrors }: Target): Promise<void> {
  const run = (command: string, args: string[], input = '') => {
    const env = { ...process.env, DOORBELL_DATABASE: database }
    const { status, stdout, stderr } = spawnSync(command, args, { input, env, cwd: folder, encoding: 'utf8' })
    return { status, stdout, stderr }
  }
  const migrate = (option: string) => run(process.execPath, [doorbell, 'migrate', option]).stdout
  const execute = (sql: string) => run(program, words, sql)
  const lacking = () =>
    migrate('--status')
      .split('\n')
      .filter((line) => line.includes('not applied'))

  execute(obstacle.create)
  const failed = execute(migrate('--print'))
  assert.match(failed.stderr, /user_generations.* already exists/)
  assert.equal(failed.status !== 0, reportsErrors, failed.stderr)
  assert.match(lacking()[0] ?? '', new RegExp(`^${obstructed}`))
  assert.equal(lacking().length, migrate('--print').match(/^begin/gm)?.length)

  execute(obstacle.drop)
  const { status, stderr } = execute(migrate('--print'))
  assert.doesNotMatch(stderr, /error/i)
  assert.deepEqual([status, lacking()], [0, []])
  assert.match(migrate('--print'), /Nothing to do/)
  console.log(`✔ ${what}`)
}

try {
  const file = join(folder, 'doorbell.db')
  await writeFile(file, '')
  await check('sqlite3', { database: `sqlite:${file}`, program: 'sqlite3', words: [file], reportsErrors: true })
  for (const reportsErrors of [false, true]) {
    const { url } = await freshPostgres()
    const option = reportsErrors ? ['--set', 'ON_ERROR_STOP=1'] : []
    const words = [url, '--quiet', ...option]
    await check(['psql', ...option].join(' '), { database: url, program: 'psql', words, reportsErrors })
  }
} finally {
  await rm(folder, { recursive: true })
}
