/**
 * Compares a Doorbell server with empty tables to one with a million finished requests of the calling client. The
 * databases are on the Postgres at the URL in `DOORBELL_BENCH_POSTGRES`. Both servers run at the same time and are
 * measured one after the other, so that a disturbance of the machine affects both. The ratio of their rates is computed
 * for each round. Exits with 1 unless the median of the ratio is within 1 ± 0.1. The results of a whole run with this
 * build are written to `bench/results.md`.
 */
import { parseArgs } from 'node:util'
import type { ClientId } from '../../bench/cast.ts'
import type { Part } from '../../bench/part.ts'
import type { DoorbellSetup } from '../../bench/parts/doorbell.ts'
import type { Job } from '../../bench/parts/load.ts'
import { circumstances, figure, grouped, keepSection, median, medianInterval, table } from '../../bench/report.ts'
import { type BenchStage, onStage } from '../../bench/stage.ts'
import { addFinishedRows } from '../../test/support/finished-rows.ts'

const usual = { rounds: 11, seconds: 2, rows: 1_000_000 }
const { values: options } = parseArgs({
  options: {
    commit: { type: 'string' },
    rounds: { type: 'string', default: String(usual.rounds) },
    seconds: { type: 'string', default: String(usual.seconds) },
    rows: { type: 'string', default: String(usual.rows) },
  },
})
const rounds = Number(options.rounds)
const seconds = Number(options.seconds)
const rows = Number(options.rows)

const client: ClientId = 'till'
const connections = 64
/** The check fails unless the median of the ratio is within 1 ± this number. */
const levelWithin = 0.1
/** The minimum number of rounds: a 95 % interval cannot be computed from fewer. */
const leastRounds = 6

const kinds: { name: string; play: Job['play'] }[] = [
  { name: 'requests', play: { kind: 'ring', client } },
  { name: 'flows', play: { kind: 'flow', client, alg: 'ES256', approves: 'device api' } },
]

interface Measured {
  name: string
  empty: number[]
  full: number[]
}

async function main(): Promise<void> {
  if (process.env.DOORBELL_BENCH_POSTGRES === undefined) throw new Error('run checks/debian-postgres/run.sh')
  if (!(rounds >= leastRounds)) throw new Error(`--rounds takes at least ${leastRounds}`)
  const begin = performance.now()
  const { all, aboutPostgres } = await onStage(async (stage) => ({
    all: await measure(stage),
    aboutPostgres: stage.stores.aboutPostgres,
  }))
  const build = options.commit === undefined ? 'this build' : `the build of ${options.commit}`
  const took = Math.round((performance.now() - begin) / 1000)
  const how = `${build}, ${grouped(rows)} finished rows, ${rounds} rounds of ${seconds} s, ${connections} connections, ${took} s`
  const text = `## Full tables, on Debian's Postgres\n\n${circumstances(aboutPostgres, how)}\n\n${tableOf(all)}`
  process.stdout.write(`${text}\n`)
  const isWhole = options.commit === undefined && rounds >= usual.rounds && rows >= usual.rows
  if (isWhole) await keepSection('debian-postgres', text)
  process.exitCode = all.every(isLevel) ? 0 : 1
}

async function measure(stage: BenchStage): Promise<Measured[]> {
  const parts = options.commit === undefined ? undefined : stage.buildOn(options.commit)
  const start = async (database: string): Promise<Part> => {
    const setup: DoorbellSetup = { database, assertionKey: stage.assertionKey, interval: 1 }
    return stage.start('doorbell', setup, parts === undefined ? {} : { parts })
  }
  const [empty, full] = [await stage.stores.postgres(), await stage.stores.postgres()]
  // This start and stop migrates the database with the measured build.
  await (await start(full)).stop()
  process.stderr.write(`${grouped(rows)} finished rows …\n`)
  await addFinishedRows({ url: full, clientId: client, count: rows })
  const servers = { empty: await start(empty), full: await start(full) }
  try {
    const all: Measured[] = []
    for (const { name, play } of kinds) {
      process.stderr.write(`${name} …\n`)
      const measured: Measured = { name, empty: [], full: [] }
      const rate = async (which: 'empty' | 'full') => {
        const job = { port: servers[which].port, at: `${name} ${which}`, play, connections, seconds }
        const played = await stage.load(job)
        return played.operations / played.seconds
      }
      // Warm-up: afterwards all code is compiled.
      for (const which of ['empty', 'full'] as const) await rate(which)
      for (let round = 0; round < rounds; round++) {
        for (const which of round % 2 ? (['full', 'empty'] as const) : (['empty', 'full'] as const)) {
          measured[which].push(await rate(which))
        }
      }
      all.push(measured)
    }
    return all
  } finally {
    await Promise.all(Object.values(servers).map((server) => server.stop()))
  }
}

const ratiosOf = ({ empty, full }: Measured) => full.map((rate, round) => rate / empty[round]!)
const isLevel = (measured: Measured) => Math.abs(median(ratiosOf(measured)) - 1) <= levelWithin

function tableOf(all: Measured[]): string {
  return table(
    ['work', 'per second: empty', 'full', 'ratio (95 %)', ''],
    all.map((measured) => {
      const ratios = ratiosOf(measured)
      const [low, high] = medianInterval(ratios)
      const ratio = `${median(ratios).toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)})`
      const rates = [figure(median(measured.empty)), figure(median(measured.full))]
      return [measured.name, ...rates, ratio, isLevel(measured) ? 'level' : 'not level']
    }),
  )
}

await main()
