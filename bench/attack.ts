/**
 * `npm run bench:attack`: measures how an attack affects honest clients, with this build and with an older build.
 *
 *     npm run bench:attack                            all attacks, both engines, about 45 minutes; writes bench/results.md
 *     npm run bench:attack -- --against main~10        beside another commit than the default one
 *     npm run bench:attack -- --only ready             one attack (may be repeated); prints only
 *     npm run bench:attack -- --engine postgres        one engine; prints only
 *
 * Honest clients send authentication requests, users approve them, and the clients redeem the tokens. Each build has
 * its own server and database. Both servers run at the same time. They are measured one after the other, first without
 * an attack, then under attack. The attacker is a separate process. Its calls are limited in number and time, and go to
 * this machine only.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Attack, type AttackPlan, plans } from './attacks.ts'
import type { Part } from './part.ts'
import type { Answers, AttackJob } from './parts/attacker.ts'
import { circumstances, figure, keepSection, median, table } from './report.ts'
import { type BenchStage, onStage } from './stage.ts'

const engines = ['SQLite', 'Postgres'] as const
type Engine = (typeof engines)[number]

/** The last commit before the defences against attackers and full tables. */
const usualOther = 'ca7be158f7ab'

const { values: options } = parseArgs({
  options: {
    against: { type: 'string', default: usualOther },
    only: { type: 'string', multiple: true },
    engine: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string', default: '6' },
    rows: { type: 'string', default: '1000000' },
    write: { type: 'boolean', default: false },
  },
})
/** The number of rounds of an attack, unless the attack or the command line specifies another number. */
const usualRounds = 3
const seconds = Number(options.seconds)
/**
 * The required results under attack, relative to the results without an attack: the lowest rate and the highest p99.
 */
const wanted = { leastRate: 0.5, mostP99: 3 }
/** Servers are idle if they use at most this share of one processor during `everyMs`. */
const idle = { everyMs: 500, mostShare: 0.1, waitMs: 30_000 }

/** The measurements of honest clients at one server during one period. */
export interface Served {
  perSecond: number
  /** Milliseconds. */
  p99: number
  failed: number
}

export interface Server {
  part: Part
  /** The URL of the server's database. */
  url: string
}

interface Build {
  name: 'before' | 'now'
  server: Server
  undisturbed: Served[]
  attacked: Served[]
  answers: Answers
}

interface Played {
  attack: string
  engine: Engine
  builds: Build[]
}

async function main(): Promise<void> {
  const chosen = plans.filter(({ name }) => options.only === undefined || options.only.includes(name))
  const on = engines.filter((engine) => options.engine === undefined || engine.toLowerCase() === options.engine)
  if (chosen.length === 0) throw new Error(`--only takes ${plans.map(({ name }) => name).join(', ')}`)
  if (on.length === 0) throw new Error('--engine takes sqlite and postgres')
  const begin = performance.now()
  const { all, aboutPostgres } = await onStage(async (stage) => {
    const other = stage.buildOn(options.against)
    const all: Played[] = []
    for (const plan of chosen) {
      const reason = plan.impossibleHere?.()
      if (reason !== undefined) throw new Error(`${plan.name}: ${reason}; leave it out with --only`)
      for (const engine of on) {
        process.stderr.write(`${plan.title}, ${engine} …\n`)
        all.push(await play(plan, engine, stage, other))
        await stage.stores.clear()
      }
    }
    return { all, aboutPostgres: stage.stores.aboutPostgres }
  })
  const took = Math.round((performance.now() - begin) / 1000)
  const rounds = [...new Set(chosen.map(roundsOf))].join(' or ')
  const how = `against ${options.against}, ${rounds} rounds of ${seconds} s undisturbed and as many under attack, ${took} s`
  const text = `## Under attack\n\n${circumstances(aboutPostgres, how)}\n\n${write(all)}`
  process.stdout.write(`${text}\n`)
  const isWhole = options.only === undefined && options.engine === undefined
  if (isWhole || options.write) await keepSection('attack', text)
}

async function play(plan: AttackPlan, engine: Engine, stage: BenchStage, other: URL): Promise<Played> {
  const attacker = await stage.start('attacker')
  const honest = await plan.honest(stage)
  const builds: Build[] = []
  try {
    for (const [name, parts] of [['before', other] as const, ['now', undefined] as const]) {
      const url = engine === 'SQLite' ? stage.stores.sqlite() : await stage.stores.postgres()
      const setup = { database: url, assertionKey: stage.assertionKey, interval: 1, more: honest.settings }
      const part = await stage.start('doorbell', setup, { parts, ...plan.program?.() })
      const build: Build = { name, server: { part, url }, undisturbed: [], attacked: [], answers: {} }
      builds.push(build)
      // Warm-up: afterwards all code is compiled, and Postgres has planned the statements again.
      await honest.serve(build.server, { at: `${plan.name} ${engine} ${name}`, seconds: 2, isAttacked: false })
    }
    await inTurns(plan, builds, stage, async (build) => {
      const how = { at: `${plan.name} ${engine} ${build.name}`, seconds, isAttacked: false }
      build.undisturbed.push(await honest.serve(build.server, how))
    })
    for (const { server } of builds) await plan.fill?.(server, Number(options.rows))
    await inTurns(plan, builds, stage, async (build) => {
      const how = { at: `${plan.name} ${engine} ${build.name}`, seconds, isAttacked: true }
      const attack = await prepareAttack(plan.attack, build, attacker)
      const [served, answers] = await Promise.all([honest.serve(build.server, how), attack()])
      build.attacked.push(served)
      for (const [status, count] of Object.entries(answers))
        build.answers[status] = (build.answers[status] ?? 0) + count
    })
    return { attack: plan.name, engine, builds }
  } finally {
    await Promise.all([...builds.map(({ server }) => server.part.stop()), attacker.stop(), honest.end()])
  }
}

const roundsOf = (plan: AttackPlan) => Number(options.rounds ?? plan.rounds ?? usualRounds)

/** Measures the rounds. Every second round begins with the other build. */
async function inTurns(
  plan: AttackPlan,
  builds: Build[],
  stage: BenchStage,
  measure: (build: Build) => Promise<void>,
): Promise<void> {
  const rounds = roundsOf(plan)
  for (let round = 0; round < rounds; round++) {
    for (const build of round % 2 === 0 ? builds : builds.toReversed()) {
      await untilIdle(builds, stage)
      await measure(build)
    }
  }
}

/**
 * Resolves when the servers and Postgres use little CPU time. After an attack, a server may still be hashing passwords,
 * which would slow down the measurement of the other server.
 */
async function untilIdle(builds: Build[], stage: BenchStage): Promise<void> {
  const end = performance.now() + idle.waitMs
  for (let last = await cpuOf(builds, stage); performance.now() < end; ) {
    await sleep(idle.everyMs)
    const now = await cpuOf(builds, stage)
    if (now - last < idle.mostShare * idle.everyMs * 1000) return
    last = now
  }
  process.stderr.write(`  the servers did not become idle within ${idle.waitMs / 1000} s\n`)
}

/** Resolves to the microseconds of CPU that the servers and Postgres have used so far. */
async function cpuOf(builds: Build[], { stores }: BenchStage): Promise<number> {
  const usages = await Promise.all(builds.map(({ server }) => server.part.usage()))
  return usages.reduce((sum, { cpu }) => sum + cpu, (await stores.postgresCpu()) ?? 0)
}

/** Prepares the attack, for instance by signing users in. Resolves to the function that begins the attack. */
async function prepareAttack(attack: Attack | undefined, { server }: Build, attacker: Part) {
  if (attack === undefined) return async (): Promise<Answers> => ({})
  const { port } = server.part
  await attacker.ask('prepare', { port, attack })
  return (): Promise<Answers> => attacker.ask('run', { port, attack, seconds: seconds + 1 } satisfies AttackJob)
}

function write(all: Played[]): string {
  const rows = all.flatMap(({ attack, engine, builds }) =>
    builds.map(({ name, undisturbed, attacked, answers }) => {
      const middle = (served: Served[], what: keyof Served) => median(served.map((each) => each[what]))
      const rate = middle(attacked, 'perSecond') / middle(undisturbed, 'perSecond')
      const p99 = middle(attacked, 'p99') / middle(undisturbed, 'p99')
      const holds = rate >= wanted.leastRate && p99 <= wanted.mostP99
      return [
        `${attack}, ${engine}, ${name}`,
        figure(middle(undisturbed, 'perSecond')),
        figure(middle(attacked, 'perSecond')),
        figure(rate),
        figure(middle(undisturbed, 'p99')),
        figure(middle(attacked, 'p99')),
        figure(p99),
        figure(attacked.reduce((sum, { failed }) => sum + failed, 0)),
        Object.entries(answers)
          .map(([status, count]) => `${count} × ${status}`)
          .join(', ') || '–',
        name === 'before' ? '' : holds ? 'holds' : 'missed',
      ]
    }),
  )
  const head = [
    'attack, engine, build',
    'per second: undisturbed',
    'attacked',
    'ratio',
    'p99 ms: undisturbed',
    'attacked',
    'ratio',
    'failed',
    'responses to the attacker',
    `≥ ${wanted.leastRate}, ≤ ${wanted.mostP99}`,
  ]
  return [table(head, rows), plans.map(({ name, title }) => `- ${name}: ${title}`).join('\n')].join('\n\n')
}

await main()
