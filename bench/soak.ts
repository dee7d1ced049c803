/**
 * Tests whether a server stays stable for a long time: memory, latency, and the size of its tables.
 *
 *     npm run bench:soak                       20 minutes
 *     npm run bench:soak -- --minutes 2        a shorter run
 *
 * The server runs in a separate process on SQLite. A flow is a request, a poll that is too early, an approval, and the
 * tokens. First the test measures the highest number of flows per second, while old records are pruned. Then it begins
 * 70 % of that number each second, even if earlier flows have not ended. Finished records are kept for a tenth of the
 * run. Before the measurement, flows run for that time, so that as many records are pruned as are added. The result
 * replaces the section between the soak marks of bench/results.md.
 */
import { execFileSync, fork } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Agent, request } from 'undici'
import { systemClock } from '../src/platform/clock.ts'
import { newSecret } from '../src/platform/crypto.ts'
import { createLog } from '../src/platform/log.ts'
import { openDatabase } from '../src/platform/storage/open.ts'
import { freePort } from '../test/support/ports.ts'
import type { SoakOrder, SoakReport } from './soak-server.ts'

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '20' } } })
const minutes = Number(values.minutes)
const share = 0.7
/** The number of connections, which is also the number of concurrent flows while the highest rate is measured. */
const connections = 64
const users = 2000
/** Milliseconds between two samples. */
const often = 5000

const folder = await mkdtemp(join(tmpdir(), 'doorbell-soak-'))
const file = join(folder, 'doorbell.db')
const secret = newSecret()
const port = await freePort()
const keepFor = Math.max(5, minutes * 6)
const url = `http://localhost:${port}`
const agent = new Agent({ connections, pipelining: 1 })
const say = (line: string) => process.stdout.write(`${line}\n`)

interface Sample {
  minute: number
  rss: number
  p50: number
  p99: number
  flows: number
  failed: number
  tables: Record<string, number>
  fileSize: number
}

/**
 * How much each value may grow from the second third of the run to the last third, in percent. The first third is
 * warm-up.
 */
const allowed = { rss: 10, p50: 25, p99: 50, rows: 10 }

const tables = ['backchannel_auth_requests', 'notifications', 'oidc_models', 'used_assertions'] as const
const history = 'backchannel_auth_consent_history'

const server = fork(join(import.meta.dirname, 'soak-server.ts'))
try {
  const order: SoakOrder = { port, database: `sqlite:${file}`, secret, users, keepFor }
  await reportOf(order)
  // The highest rate is measured while as many records are pruned as are added. The server is faster as long as it has
  // nothing to prune.
  say(`for ${keepFor} seconds as fast as it goes, until there is something to prune …`)
  await capacity(keepFor)
  const most = await capacity(Math.min(30, minutes * 3))
  const rate = most * share
  say(`${most.toFixed(0)} flows a second at most; ${rate.toFixed(0)} a second for ${minutes} minutes`)
  const samples = await soak(rate)
  const verdict = judge(samples)
  say(verdict.lines.join('\n'))
  write(samples, rate, most, verdict)
  process.exitCode = verdict.isFlat ? 0 : 1
} finally {
  server.kill()
  await agent.close()
  await rm(folder, { recursive: true, force: true })
}

function reportOf(asked: SoakOrder | 'report'): Promise<SoakReport> {
  return new Promise((resolve) => {
    server.once('message', (report) => resolve(report as SoakReport))
    server.send(asked)
  })
}

/** Runs a flow on each connection, followed at once by the next flow. Resolves to the number of flows per second. */
async function capacity(seconds: number): Promise<number> {
  const until = performance.now() + seconds * 1000
  let flows = 0
  const begun = performance.now()
  const lanes = Array.from({ length: connections }, async () => {
    while (performance.now() < until) {
      await flow()
      flows += 1
    }
  })
  await Promise.all(lanes)
  return flows / ((performance.now() - begun) / 1000)
}

/**
 * Begins `rate` flows per second, even if earlier flows have not ended. The time of a flow includes its waiting time.
 */
async function soak(rate: number): Promise<Sample[]> {
  const samples: Sample[] = []
  let times: number[] = []
  let failed = 0
  let begun = 0
  const underWay = new Set<Promise<void>>()
  const start = performance.now()
  const end = start + minutes * 60_000
  let next = start + often
  let told = 0
  while (performance.now() < end) {
    const due = Math.floor(((performance.now() - start) / 1000) * rate)
    for (; begun < due; begun++) {
      const one: Promise<void> = timed().finally(() => underWay.delete(one))
      underWay.add(one)
    }
    if (performance.now() >= next) {
      next += often
      const sample = await look((performance.now() - start) / 60_000, times, failed)
      samples.push(sample)
      times = []
      failed = 0
      if (Math.floor(sample.minute) > told || sample.minute >= minutes - often / 60_000) {
        told = Math.floor(sample.minute)
        say(lineOf(sample))
      }
    }
    await pause(5)
  }
  await Promise.all(underWay)
  return samples

  async function timed(): Promise<void> {
    const from = performance.now()
    try {
      await flow()
      times.push(performance.now() - from)
    } catch {
      failed += 1
    }
  }
}

async function flow(): Promise<void> {
  const who = `u${Math.floor(Math.random() * users)}@example.com`
  const rung = await post('/backchannel/authorize', 'till', {
    scope: 'openid',
    login_hint: who,
    binding_message: 'Coffee',
  })
  const poll = { grant_type: 'urn:openid:params:grant-type:ciba', auth_req_id: String(rung.auth_req_id) }
  await post('/oauth/token', 'till', poll, 400)
  const decision = { login_hint: who, auth_req_id: poll.auth_req_id, status: 'approved' }
  await post('/backchannel/complete', 'phone', decision)
  await post('/oauth/token', 'till', poll)
}

async function post(path: string, as: string, form: Record<string, string>, expected = 200) {
  const authorization = `Basic ${Buffer.from(`${as}:${secret}`).toString('base64')}`
  const headers = { authorization, 'content-type': 'application/x-www-form-urlencoded' }
  const { statusCode, body } = await request(url + path, {
    method: 'POST',
    headers,
    body: String(new URLSearchParams(form)),
    dispatcher: agent,
  })
  const text = await body.text()
  if (statusCode !== expected) throw new Error(`${path} ${statusCode} ${text}`)
  return JSON.parse(text) as Record<string, unknown>
}

async function look(minute: number, times: number[], failed: number): Promise<Sample> {
  const { rss } = await reportOf('report')
  const sorted = times.toSorted((one, other) => one - other)
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
  const { size } = await stat(file)
  return {
    minute,
    rss,
    p50: at(0.5),
    p99: at(0.99),
    flows: times.length,
    failed,
    tables: await sizes(),
    fileSize: size,
  }
}

/**
 * Resolves to the number of rows of each measured table. Reads the database on its own connection, without the server.
 */
async function sizes(): Promise<Record<string, number>> {
  const database = await openDatabase(`sqlite:${file}`, { log: createLog('silent'), clock: systemClock })
  try {
    const counted: [string, number][] = []
    for (const table of [...tables, history]) {
      const [row] = await database.read<{ rows: number }>(`select count(*) as rows from ${table}`)
      counted.push([table, row!.rows])
    }
    return Object.fromEntries(counted)
  } finally {
    await database.close()
  }
}

function lineOf({ minute, rss, p50, p99, flows, failed, tables, fileSize }: Sample): string {
  const rows = Object.entries(tables).map(([table, rows]) => `${table} ${rows}`)
  return [
    `minute ${minute.toFixed(1)}: ${megabytes(rss)} MB, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`,
    `${(flows / (often / 1000)).toFixed(0)} flows/s, ${failed} failed, file ${megabytes(fileSize)} MB, ${rows.join(', ')}`,
  ].join(', ')
}

interface Verdict {
  isFlat: boolean
  lines: string[]
}

function judge(samples: Sample[]): Verdict {
  const third = Math.floor(samples.length / 3)
  const [middle, last] = [samples.slice(third, 2 * third), samples.slice(2 * third)]
  const compare = (name: string, of: (sample: Sample) => number, most: number, unit = '') => {
    const [before, after] = [median(middle.map(of)), median(last.map(of))]
    const growth = before === 0 ? (after === 0 ? 0 : Number.POSITIVE_INFINITY) : (after / before - 1) * 100
    const isFlat = growth <= most
    const grew = `${growth >= 0 ? '+' : ''}${growth.toFixed(1)} %`
    return {
      isFlat,
      line: `${isFlat ? 'flat    ' : 'NOT FLAT'} ${name}: ${before.toFixed(1)}${unit} → ${after.toFixed(1)}${unit} (${grew}, at most +${most} %)`,
    }
  }
  const compared = [
    compare('memory', ({ rss }) => rss / 2 ** 20, allowed.rss, ' MB'),
    compare('latency p50', ({ p50 }) => p50, allowed.p50, ' ms'),
    compare('latency p99', ({ p99 }) => p99, allowed.p99, ' ms'),
    ...tables.map((table) => compare(`rows of ${table}`, ({ tables }) => tables[table]!, allowed.rows)),
  ]
  const failed = samples.reduce((sum, sample) => sum + sample.failed, 0)
  const isFlat = compared.every((each) => each.isFlat) && failed === 0
  const kept = `grows by design: ${history}, ${samples[0]?.tables[history]} → ${samples.at(-1)?.tables[history]} rows`
  const lines = [...compared.map(({ line }) => line), kept, `${failed} flows failed`, isFlat ? 'Flat.' : 'Not flat.']
  return { isFlat, lines }
}

function median(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

function write(samples: Sample[], rate: number, most: number, { lines }: Verdict): void {
  const path = join(import.meta.dirname, 'results.md')
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  const everyMinute = samples.filter(
    ({ minute }, index) =>
      Math.floor(minute) > Math.floor(samples[index - 1]?.minute ?? 0) || index === samples.length - 1,
  )
  const rows = everyMinute.map(({ minute, rss, p50, p99, flows, tables: counted, fileSize }) => {
    const cells = [
      minute.toFixed(1),
      megabytes(rss),
      p50.toFixed(1),
      p99.toFixed(1),
      (flows / (often / 1000)).toFixed(0),
    ]
    return `| ${[...cells, megabytes(fileSize), ...[...tables, history].map((table) => counted[table])].join(' | ')} |`
  })
  const section = [
    '<!-- soak -->',
    '## Soak',
    '',
    `\`npm run bench:soak -- --minutes ${minutes}\`: ${rate.toFixed(0)} whole flows a second, 70 % of ${most.toFixed(0)}, on SQLite;`,
    `finished rows kept for ${keepFor} seconds. ${cpus()[0]?.model}, ${cpus().length} cores shared with the load, Node ${process.version}, commit ${commit}.`,
    '',
    `| minute | memory MB | p50 ms | p99 ms | flows/s | file MB | ${[...tables, history].join(' | ')} |`,
    `| ${Array.from({ length: 6 + tables.length + 1 }, () => '---:').join(' | ')} |`,
    ...rows,
    '',
    ...lines.map((line) => `- ${line.replaceAll(/ +/g, ' ')}`),
    '<!-- /soak -->',
  ].join('\n')
  const before = existsSync(path) ? readFileSync(path, 'utf8') : '# Results\n\n<!-- soak --><!-- /soak -->\n'
  const marked = before.includes('<!-- soak -->') ? before : `${before.trimEnd()}\n\n<!-- soak --><!-- /soak -->\n`
  writeFileSync(
    path,
    marked.replace(/<!-- soak -->[\s\S]*?<!-- \/soak -->/, () => section),
  )
}

function megabytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0)
}
