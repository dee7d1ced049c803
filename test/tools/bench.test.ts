/** The benchmarks start, and hear what they expect from every server. How fast, is not for a test to say. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { isLevel, medianInterval } from '../../bench/report.ts'
import { startPostgres } from '../support/postgres.ts'

test('npm run bench: every server answers polls and whole flows as it should', async (t) => {
  const few = ['--rounds', '1', '--seconds', '0.2', '--requests', '400', '--connections', '4']
  const said = await run(t, 'bench/run.ts', '--only', 'pending-polls', '--only', 'flows-es256', ...few)
  assert.match(said, /^\| pending-polls +\| +Doorbell, Postgres \/ oidc-provider, Postgres \|/m)
  for (const server of ['Doorbell, SQLite', 'Doorbell, Postgres', 'oidc-provider, memory', 'oidc-provider, Postgres']) {
    const rows = said.split('\n').filter((line) => line.startsWith(`| ${server}`))
    assert.equal(rows.length, 2, server)
    for (const row of rows) assert.ok(Number(row.split('|')[3]?.replaceAll(' ', '')) > 0, row)
  }
})

test('npm run bench -- --against: two builds side by side, with the interval of the ratio', async (t) => {
  const short = ['--quick', '--rounds', '6', '--seconds', '0.1', '--only', 'flows']
  const said = await run(t, 'bench/run.ts', '--against', 'HEAD', ...short)
  assert.match(said, /quick run, against HEAD, 6 rounds/)
  for (const engine of ['SQLite', 'Postgres']) {
    assert.match(said, new RegExp(`^\\| flows, ${engine} +\\|.* \\d\\.\\d{3} \\(\\d\\.\\d{3}–\\d\\.\\d{3}\\) \\|`, 'm'))
  }
})

test('npm run bench -- --against: fewer rounds than a verdict needs are refused, before anything starts', async () => {
  const refused = async (...words: string[]) => {
    const { code, complaint } = await finished(words, process.env)
    assert.notEqual(code, 0, complaint)
    return /^Error: (.*)$/m.exec(complaint)?.[1]
  }
  const against = ['bench/run.ts', '--against', 'HEAD', '--only', 'flows']
  const tooFew = '--against takes at least 15 --rounds; for a first impression, --quick accepts 6'
  assert.equal(await refused(...against, '--rounds', '14'), tooFew)
  assert.equal(await refused(...against, '--rounds', 'many'), tooFew)
  assert.equal(await refused(...against, '--quick', '--rounds', '5'), '--against --quick takes at least 6 --rounds')
})

test('npm run bench:attack: two builds, undisturbed and under attack', async (t) => {
  const short = ['--rounds', '1', '--seconds', '0.5', '--rows', '1000', '--engine', 'sqlite']
  const said = await run(t, 'bench/attack.ts', '--against', 'HEAD', '--only', 'ready', '--only', 'sign-ins', ...short)
  for (const attack of ['ready', 'sign-ins']) {
    for (const build of ['before', 'now']) {
      const cells = new RegExp(`^\\| ${attack}, SQLite, ${build} +\\|(.*)$`, 'm').exec(said)?.[1]?.split('|') ?? []
      assert.ok(Number(cells[0]?.replaceAll(' ', '')) > 0, said)
      assert.match(cells[7]!, / \d+ × \d\d\d/)
    }
  }
})

test('the interval of a median is that of its ranks', () => {
  const values = Array.from({ length: 15 }, (_, index) => 15 - index)
  // Of fifteen tosses at most three are heads with a chance of 1.8 %, at most four with 5.9 %.
  assert.deepEqual(medianInterval(values), [4, 12])
  assert.deepEqual(medianInterval([6, 5, 4, 3, 2, 1]), [1, 6])
})

test('a difference is one if its whole interval is outside the tolerance, whatever its median is', () => {
  assert.ok(isLevel([0.93, 1.461], 0.1))
  assert.ok(isLevel([1.1, 1.3], 0.1))
  assert.ok(!isLevel([1.101, 1.3], 0.1))
  assert.ok(!isLevel([0.5, 0.899], 0.1))
})

test('npm run bench:scale: polls, rings, sweeps and pings', async (t) => {
  const said = await run(t, 'bench/scale.ts', '--only', 'sqlite', '--sizes', '200', '--rounds', '1', '--seconds', '0.5')
  assert.match(said, /^\| SQLite +\| +200 \|/m)
  assert.match(said, /an endpoint that never answers +\|.* 0 \|$/m)
})

/** Answers what it printed. Only a whole run writes the results down. */
async function run(t: { after(end: () => Promise<void>): void }, ...words: string[]): Promise<string> {
  let url = process.env.DOORBELL_TEST_POSTGRES
  if (url === undefined) {
    const server = await startPostgres()
    t.after(server.stop)
    url = server.url
  }
  const { code, said, complaint } = await finished(words, { ...process.env, DOORBELL_BENCH_POSTGRES: url })
  assert.equal(code, 0, complaint)
  return said
}

async function finished(words: string[], env: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, words, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [said, complaint] = ['', '']
  child.stdout.on('data', (chunk) => {
    said += chunk
  })
  child.stderr.on('data', (chunk) => {
    complaint += chunk
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, said, complaint }
}
