/**
 * `npm run bench -- --against <commit>`: compares this build of Doorbell with the build of another commit, in one run.
 *
 *     npm run bench -- --against main~10                     150 rounds, both engines, about 18 minutes
 *     npm run bench -- --against v0.1.0 --only requests       one kind of work (may be repeated): requests, polls, flows
 *     npm run bench -- --against main~1 --rounds 300
 *     npm run bench -- --against main~1 --quick               a first impression: 24 rounds
 *
 * Without `--quick`, fewer than fifteen rounds are refused, because the 95 % interval would be too wide for a verdict.
 *
 * Each build has its own server and database. The servers of both builds run at the same time. A round measures one
 * build and then the other. Every second round begins with the other build, so that a disturbance of the machine
 * affects both builds. The ratio is computed for each round. Rounds are short, because the speed of a shared machine
 * changes within seconds. In a test, a build was compared with itself: the ratios were 0.93 to 1.18 with 24 rounds of
 * half a second, and 1.00 to 1.01 with 120 rounds of a fifth of a second. Without `--quick`, both servers are started
 * six times, because two processes of the same build also differ by some percent. The cost of a build is the CPU time
 * that the server and Postgres use for one operation. The rate is not used, because it also depends on other load of
 * the machine.
 */
import type { ClientId } from './cast.ts'
import type { Part } from './part.ts'
import type { DoorbellSetup } from './parts/doorbell.ts'
import type { Job } from './parts/load.ts'
import { circumstances, figure, keepSection, median, medianInterval, table } from './report.ts'
import { type BenchStage, onStage } from './stage.ts'

export interface AgainstOptions {
  /** Any name by which git finds the commit. */
  commit: string
  /** Whether to run only a few rounds, for a first impression. A verdict needs more rounds. */
  quick: boolean
  /** The number of rounds: at least fifteen, or six with `quick`. Default: 150, or 24 with `quick`. */
  rounds: number | undefined
  /** For how many seconds each build is measured in a round. Default: 0.2. */
  seconds: number | undefined
  /** Kinds of work. Default: all. */
  only: string[] | undefined
  /** Whether the output is written to `bench/results.md`. */
  write: boolean
}

interface Work {
  name: string
  /** What the load generator does once, before the first round. */
  before?: Job['play']
  play: Job['play']
}

const client: ClientId = 'till'
/** The interval between two polls of a request, in seconds. */
const interval = 1
/** The number of open requests that are polled. A server cannot answer as many polls in one interval. */
const polled = 25_000
const connections = 64
/** Time limit for the preparation of the rounds, in seconds. Only a very slow server reaches it. */
const longestPreparation = 120

const kinds: Work[] = [
  { name: 'requests', play: { kind: 'ring', client } },
  {
    name: 'polls',
    before: { kind: 'ring', client, remember: polled },
    play: {
      kind: 'poll',
      client,
      of: polled,
      among: polled,
      remembered: true,
      expects: 'authorization_pending',
      interval: interval * 1000,
    },
  },
  { name: 'flows', play: { kind: 'flow', client, alg: 'ES256', approves: 'device api' } },
]

/** A verdict needs fifteen rounds. With fewer than six there is no 95 % interval. */
const forVerdict = { least: 15, usual: 150, starts: 6 }
const firstImpression = { least: 6, usual: 24, starts: 1 }
const usualSeconds = 0.2
/** For how many seconds a server works before the first round, so that all its code is compiled. */
const warmUp = 2

/** The builds count as equal if the 95 % interval of the CPU ratio overlaps 1 ± this number. */
const levelWithin = 0.03

const engines = ['SQLite', 'Postgres'] as const
type Engine = (typeof engines)[number]

interface Build {
  name: 'now' | 'before'
  server: Part
}

/** The measurements of one build in one round. */
interface Measured {
  perSecond: number
  /** Microseconds of CPU time that the server and Postgres together use for one operation. */
  cpu: number
}

interface Compared {
  work: string
  engine: Engine
  now: Measured[]
  before: Measured[]
}

/** Measures both builds and prints the figures. Writes the figures to `bench/results.md` if `write` is set. */
export async function compareBuilds({ commit, quick, only, write, ...given }: AgainstOptions): Promise<void> {
  const { least, usual, starts } = quick ? firstImpression : forVerdict
  const rounds = given.rounds ?? usual
  const seconds = given.seconds ?? usualSeconds
  const chosen = kinds.filter(({ name }) => only === undefined || only.includes(name))
  if (chosen.length === 0) throw new Error(`--only takes ${kinds.map(({ name }) => name).join(', ')} with --against`)
  if (!(rounds >= least)) {
    const other = quick ? '' : `; for a first impression, --quick accepts ${firstImpression.least}`
    throw new Error(`--against${quick ? ' --quick' : ''} takes at least ${least} --rounds${other}`)
  }
  const begin = performance.now()
  const { all, aboutPostgres } = await onStage(async (stage) => {
    const other = stage.buildOn(commit)
    const all: Compared[] = []
    for (const work of chosen) {
      for (const engine of engines) {
        process.stderr.write(`${work.name} on ${engine} …\n`)
        all.push(await compare(work, engine, { stage, other, rounds, seconds, starts }))
      }
    }
    return { all, aboutPostgres: stage.stores.aboutPostgres }
  })
  const took = Math.round((performance.now() - begin) / 1000)
  const how = `${quick ? 'quick run, ' : ''}against ${commit}, ${rounds} rounds of ${seconds} s for each build, ${starts} starts, ${connections} connections, ${took} s`
  const text = `## Against the build before\n\n${circumstances(aboutPostgres, how)}\n\n${tableOf(all)}`
  process.stdout.write(`${text}\n`)
  if (write) await keepSection('against', text)
}

interface Comparing {
  stage: BenchStage
  /** The folder of the other build's parts. */
  other: URL
  rounds: number
  seconds: number
  /** The number of times that the servers are started. */
  starts: number
}

async function compare(work: Work, engine: Engine, comparing: Comparing): Promise<Compared> {
  const { stage, rounds, starts } = comparing
  const compared: Compared = { work: work.name, engine, now: [], before: [] }
  for (let start = 0; start < starts; start++) {
    const last = Math.round((rounds * (start + 1)) / starts)
    await compareOnce(compared, work, comparing, { last, isNowFirst: start % 2 === 0 })
    await stage.stores.clear()
  }
  return compared
}

/**
 * Starts the servers of both builds, and measures them until there are `last` rounds. The builds take turns in starting
 * first, because the build that is started first needs up to four percent more CPU time.
 */
async function compareOnce(
  compared: Compared,
  work: Work,
  { stage, other, seconds }: Comparing,
  { last, isNowFirst }: { last: number; isNowFirst: boolean },
): Promise<void> {
  const { engine } = compared
  const builds: Build[] = []
  const load = ({ name, server }: Build, play: Job['play'], seconds: number) =>
    stage.load({ port: server.port, at: `${work.name} ${engine} ${name} ${last}`, play, connections, seconds })
  try {
    for (const name of isNowFirst ? (['now', 'before'] as const) : (['before', 'now'] as const)) {
      builds.push({ name, server: await startOn(engine, stage, name === 'now' ? undefined : other) })
    }
    for (const build of builds) {
      if (work.before) await load(build, work.before, longestPreparation)
      await load(build, work.play, warmUp)
    }
    for (let round = compared.now.length; round < last; round++) {
      for (const build of round % 2 === 0 ? builds : builds.toReversed()) {
        const cpuBefore = await cpuOf(build, stage)
        const { operations, seconds: took } = await load(build, work.play, seconds)
        const cpu = (await cpuOf(build, stage)) - cpuBefore
        compared[build.name].push({ perSecond: operations / took, cpu: cpu / operations })
      }
    }
  } finally {
    await Promise.all(builds.map(({ server }) => server.stop()))
  }
}

async function startOn(engine: Engine, { start, stores, assertionKey }: BenchStage, parts?: URL): Promise<Part> {
  const database = engine === 'SQLite' ? stores.sqlite() : await stores.postgres()
  return start('doorbell', { database, assertionKey, interval } satisfies DoorbellSetup, { parts })
}

/**
 * Returns the CPU time that the server of a build and Postgres have used. Only one build works at a time, so Postgres
 * uses its CPU time for this build.
 */
async function cpuOf({ server }: Build, { stores }: BenchStage): Promise<number> {
  return (await server.usage()).cpu + ((await stores.postgresCpu()) ?? 0)
}

function tableOf(all: Compared[]): string {
  const rows = all.map(({ work, engine, now, before }) => {
    const ratioOf = (what: keyof Measured) => now.map((each, round) => each[what] / before[round]![what])
    const cpu = ratioOf('cpu')
    const rate = ratioOf('perSecond')
    return [
      `${work}, ${engine}`,
      figure(median(before.map((each) => each.cpu))),
      figure(median(now.map((each) => each.cpu))),
      withInterval(cpu),
      verdictOn(cpu),
      figure(median(before.map((each) => each.perSecond))),
      figure(median(now.map((each) => each.perSecond))),
      withInterval(rate),
    ]
  })
  const head = ['work', 'CPU µs: before', 'now', 'ratio (95 %)', '', 'per second: before', 'now', 'ratio (95 %)']
  return table(head, rows)
}

function withInterval(ratios: number[]): string {
  const [low, high] = medianInterval(ratios)
  return `${median(ratios).toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)})`
}

function verdictOn(cpuRatios: number[]): string {
  const [low, high] = medianInterval(cpuRatios)
  if (low > 1 + levelWithin) return 'dearer'
  if (high < 1 - levelWithin) return 'cheaper'
  return 'level'
}
