/**
 * `npm run fuzz`: structured random requests against every route, over real HTTP.
 *
 *     npm run fuzz                                    500 000 requests; writes its section of bench/results.md
 *     npm run fuzz -- --requests 20000 --seed 7       a shorter run with another seed
 *     npm run fuzz -- --engine postgres               on Postgres, which rejects more values than SQLite
 *     npm run fuzz -- --shot '{"method":…}'           repeats a reported request
 *
 * Exits with 1 if a response was a 5xx or came too late, if a rejected promise was not handled, if a secret was in the
 * log, or if an error was malformed.
 */
import { parseArgs } from 'node:util'
import { circumstances, grouped, keepSection, table } from '../../bench/report.ts'
import { again, type Finding, type FuzzReport, fuzz } from './run.ts'
import { readable, type Shot } from './shot.ts'

/** The least number of requests of a run whose result is kept. */
const wholeRun = 500_000

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '500000' },
    seed: { type: 'string', default: '1' },
    engine: { type: 'string', default: 'sqlite' },
    shot: { type: 'string' },
  },
})
const listOf = (counts: [string, number][]) => counts.map(([what, count]) => `${what} ${count}`).join(', ')
const say = (line: string) => process.stdout.write(`${line}\n`)

if (values.shot !== undefined) {
  const { fault, heard, log } = await again(JSON.parse(values.shot) as Shot)
  say(`${heard.status} ${heard.headers.get('content-type') ?? ''}\n${heard.body}\n${log.join('')}`)
  say(fault === undefined ? 'Nothing is wrong with it.' : `✖ ${fault}`)
  process.exitCode = fault === undefined ? 0 : 1
} else {
  const requests = Number(values.requests)
  const engine = values.engine === 'postgres' ? 'postgres' : 'sqlite'
  const seed = Number(values.seed)
  const start = performance.now()
  let told = start
  const report = await fuzz({
    requests,
    seed,
    engine,
    onProgress(answered) {
      if (performance.now() - told < 10_000) return
      told = performance.now()
      say(`${answered} of ${requests}, ${Math.round(answered / ((told - start) / 1000))} a second`)
    },
    onFinding: (what) => say(`✖ ${what}; more about it at the end`),
  })
  tell(report, seed)
  if (requests >= wholeRun) await keepReport(report, engine, seed)
  process.exitCode = report.findings.length === 0 ? 0 : 1
}

function tell({ answered, statuses, routes, findings, milliseconds }: FuzzReport, seed: number): void {
  for (const finding of findings) tellFinding(finding)
  const seconds = milliseconds / 1000
  say(`${answered} requests in ${seconds.toFixed(0)} s (${Math.round(answered / seconds)} a second), seed ${seed}`)
  say(`Statuses: ${listOf(byStatus(statuses))}`)
  say(`Addresses: ${listOf([...routes].sort(([, one], [, other]) => other - one).slice(0, 60))}`)
  say(findings.length === 0 ? 'Nothing was wrong.' : `✖ ${findings.length} kinds of faults.`)
}

function tellFinding({ what, shot, bytes, repeats, times, log }: Finding): void {
  say(`\n✖ ${what} (${times} times)`)
  say(readable(bytes))
  for (const line of log.slice(0, 3)) say(line.trim().slice(0, 2000))
  say(
    repeats
      ? `again: npm run fuzz -- --shot '${JSON.stringify(shot).replaceAll("'", "'\\''")}'`
      : 'It does not happen again alone: it takes what came before, with the same seed.',
  )
}

function byStatus(statuses: Map<number, number>): [string, number][] {
  const sorted = [...statuses].sort(([one], [other]) => one - other)
  return sorted.map(([status, count]) => [status === 0 ? 'closed, being no HTTP' : String(status), count])
}

async function keepReport(report: FuzzReport, engine: string, seed: number): Promise<void> {
  const { answered, statuses, routes, findings, milliseconds } = report
  const how = `${grouped(answered)} requests at ${routes.size} addresses, seed ${seed}, ${Math.round(milliseconds / 1000)} s`
  const faults: [string, number][] = [['**kinds of faults**', findings.length]]
  const rows = [...faults, ...byStatus(statuses)].map(([what, count]) => [what, grouped(count)])
  const text = `## Random requests, on ${engine}

\`npm run fuzz -- --engine ${engine}\`: valid requests to every route, most of them changed in several ways. A fault is a 5xx, a
response that comes too late or has the wrong form, an error that nobody handles, or a secret in the log.

${circumstances(engine === 'postgres' ? '18' : '–', how)}

${table(['responses by status', 'how many'], rows)}`
  await keepSection(`fuzz on ${engine}`, text)
}
