/**
 * `npm run bench:scale`: measures how much slower Doorbell is with full tables, on each engine, and the time from a
 * decision to its ping.
 *
 *     npm run bench:scale                     1 000, 100 000 and 1 000 000 open requests; writes bench/results.md
 *     npm run bench:scale -- --quick          without the million; prints only
 *     npm run bench:scale -- --sizes 5000     those sizes (comma separated); prints only
 *
 * `--write` always writes bench/results.md. `--only sqlite` or `--only postgres` omits the other engine. `--rounds` and
 * `--seconds` (for the pings) replace the default numbers.
 *
 * Latencies are measured at the same moderate rate for every size, because latencies at full load mainly depend on the
 * number of callers. The servers of all sizes run at the same time and are measured one after the other, so that a
 * disturbance of the machine affects all of them.
 */
import { parseArgs } from 'node:util'
import { certifyServer } from '../test/support/certificates.ts'
import { secretOf } from './cast.ts'
import { fill, letRunOut } from './fill.ts'
import type { Part } from './part.ts'
import type { Pinged, PingJob } from './parts/called-back.ts'
import type { DoorbellSetup } from './parts/doorbell.ts'
import type { Job, Played } from './parts/load.ts'
import { circumstances, figure, grouped, keepSection, median, megabytes, table } from './report.ts'
import { type BenchStage, onStage } from './stage.ts'

type EngineName = 'SQLite' | 'Postgres'

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    only: { type: 'string' },
    sizes: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
  },
})
const sizes = options.sizes?.split(',').map(Number) ?? (options.quick ? [1000, 100_000] : [1000, 100_000, 1_000_000])
const engines = (['SQLite', 'Postgres'] as const).filter((name) => !options.only || options.only === name.toLowerCase())
const seconds = Number(options.seconds ?? (options.quick ? 4 : 8))
const rounds = Number(options.rounds ?? 5)
/**
 * The number of requests that are polled in a round. Each round polls different requests, so that it includes their
 * first polls.
 */
const polled = 200
if (engines.length === 0 || sizes.some((size) => !(size >= polled * rounds))) {
  throw new Error(`engines are sqlite and postgres, sizes at least ${polled * rounds}`)
}

/** The interval between two polls, in seconds. */
const interval = 1
const connections = 16
/** Operations per second. Each request of `later` is polled every two seconds. */
const perSecond = { first: polled, later: polled / 2, rings: 100, pings: 40, deadPings: 20, pollsUnderLoad: 400 }
/** The number of requests that have expired when the sweep runs. */
const runOut = 10_000

interface Round {
  first: Played
  later: Played
  rings: Played
}

interface Sized {
  engine: EngineName
  size: number
  database: string
  /** Milliseconds. */
  filling: number
  /** Bytes on disk. */
  disk: number
  /** Milliseconds. */
  starting: number
  /** Bytes. */
  idle: number
  afterwards: number
  rounds: Round[]
  /** Milliseconds. */
  sweepOfNothing: number
  sweep: { settled: number; milliseconds: number }
}

interface Called {
  engine: EngineName
  how: string
  pinged: Pinged
}

async function main(): Promise<void> {
  const begin = performance.now()
  const { sized, called, aboutPostgres } = await onStage(async (stage) => {
    const sized: Sized[] = []
    const called: Called[] = []
    for (const engine of engines) {
      sized.push(...(await measureSizes(engine, stage)))
      await stage.stores.clear()
      process.stderr.write(`${engine}, from a decision to its ping …\n`)
      called.push(...(await measurePings(engine, stage)))
      await stage.stores.clear()
    }
    return { sized, called, aboutPostgres: stage.stores.aboutPostgres }
  })
  const how = `${options.quick ? 'quick run, ' : ''}${Math.round((performance.now() - begin) / 1000)} s`
  const text = `## Scale\n\n${circumstances(aboutPostgres, how)}\n\n${write(sized, called)}`
  process.stdout.write(`${text}\n`)
  const isWhole = !options.quick && options.sizes === undefined && options.only === undefined
  if (isWhole || options.write) await keepSection('scale', text)
}

async function measureSizes(engine: EngineName, stage: BenchStage): Promise<Sized[]> {
  const all: Sized[] = []
  const servers: Part[] = []
  try {
    for (const size of sizes) {
      process.stderr.write(`${engine}, ${grouped(size)} open requests …\n`)
      const sized = await fillOne(engine, size, stage)
      const server = await stage.start('doorbell', setupOf(sized, stage))
      servers.push(server)
      all.push({ ...sized, starting: server.readyAfter, idle: (await server.usage()).rss })
      await warmUp(server, size, stage)
    }
    process.stderr.write(`${engine}, in turns …\n`)
    for (let round = 0; round < rounds; round++) {
      for (const turn of all.keys()) {
        const index = (turn + round) % all.length
        const [sized, server] = [all[index]!, servers[index]!]
        sized.rounds.push(await measureRound(server, sized, round, stage))
        sized.afterwards = (await server.usage()).rss
      }
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
  }
  process.stderr.write(`${engine}, sweeps …\n`)
  for (const sized of all) Object.assign(sized, await measureSweeps(sized, stage))
  return all
}

async function fillOne(engine: EngineName, size: number, { stores }: BenchStage): Promise<Sized> {
  const database = engine === 'SQLite' ? stores.sqlite() : await stores.postgres()
  const begin = performance.now()
  await fill({ url: database, clientId: 'till', count: size, interval })
  const filling = performance.now() - begin
  const disk = await stores.sizeOf(database)
  const unknown = { starting: 0, idle: 0, afterwards: 0, sweepOfNothing: 0, sweep: { settled: 0, milliseconds: 0 } }
  return { engine, size, database, filling, disk, rounds: [], ...unknown }
}

function setupOf({ database }: Pick<Sized, 'database'>, { assertionKey }: BenchStage): DoorbellSetup {
  return { database, assertionKey, interval }
}

const polls = { kind: 'poll', client: 'till', expects: 'authorization_pending', interval: interval * 1000 } as const
const rings = { kind: 'ring', client: 'till' } as const

/** Polls unknown requests. Afterwards all code is compiled and all connections are open, but no request is cached. */
async function warmUp(server: Part, size: number, { load }: BenchStage): Promise<void> {
  const nobodys = { ...polls, of: 1000, from: size, among: 1000, expects: 'invalid_grant', interval: 0 } as const
  const warm = { port: server.port, at: 'nobody', connections, seconds: Math.min(2, seconds) }
  await load({ ...warm, play: nobodys })
  await load({ ...warm, at: `rings ${server.port}`, play: rings, perSecond: perSecond.rings })
}

async function measureRound(server: Part, { engine, size }: Sized, round: number, { load }: BenchStage) {
  const ask = (at: string, play: Job['play'], perSecond: number) =>
    load({ port: server.port, at, play, connections, perSecond, seconds: 2, each: true })
  const at = `${engine} ${size} ${round}`
  const open = { ...polls, of: polled, among: size, from: round }
  return {
    // This play ends when every request was polled once. The limit of two seconds matters only for a server that is too
    // slow.
    first: await ask(at, { ...open, once: true }, perSecond.first),
    later: await ask(at, open, perSecond.later),
    rings: await ask(`rings ${server.port}`, rings, perSecond.rings),
  }
}

/** Measures sweeps. The server runs without background workers, so that no other sweep runs in between. */
async function measureSweeps({ database, size }: Sized, stage: BenchStage) {
  return withServer({ ...setupOf({ database }, stage), workers: false }, stage, async (server) => {
    const sweep = () => server.ask<Sized['sweep']>('sweep')
    const nothing: number[] = []
    for (let turn = 0; turn < 5; turn++) nothing.push((await sweep()).milliseconds)
    await letRunOut(database, Math.min(runOut, size))
    return { sweepOfNothing: median(nothing), sweep: await sweep() }
  })
}

/**
 * Measures the time until pings arrive at a client in three situations: without other load, during polls, and during
 * polls while the endpoint of another client hangs.
 */
async function measurePings(engine: EngineName, stage: BenchStage): Promise<Called[]> {
  const { authority, server: certified } = await certifyServer()
  const client = await stage.start('called-back', { cert: certified.cert, key: certified.key })
  try {
    const endpoints = await client.ask<{ pinged: string; dead: string }>('endpoints')
    const database = engine === 'SQLite' ? stage.stores.sqlite() : await stage.stores.postgres()
    const size = Math.max(...sizes.filter((size) => size <= 100_000), 1000)
    await fill({ url: database, clientId: 'till', count: size, interval })
    const more = {
      clients: Object.entries(endpoints).map(([client_id, backchannel_client_notification_endpoint]) => ({
        client_id,
        client_secret: secretOf(client_id),
        backchannel_token_delivery_mode: 'ping' as const,
        backchannel_client_notification_endpoint,
      })),
      notifications: { allowPrivateNetworks: true, ca: authority.cert },
    }
    return await withServer({ ...setupOf({ database }, stage), more }, stage, async (server) => {
      const ping = (deadPerSecond?: number) =>
        client.ask<Pinged>('ping', {
          port: server.port,
          count: Math.ceil(perSecond.pings * seconds),
          perSecond: perSecond.pings,
          ...(deadPerSecond && { deadPerSecond }),
        } satisfies PingJob)
      const meanwhile = async <Result>(work: Promise<Result>): Promise<Result> => {
        const load = stage.load({
          port: server.port,
          at: `${engine} pings`,
          play: { ...polls, of: size, among: size },
          connections,
          perSecond: perSecond.pollsUnderLoad,
          seconds: seconds + 1,
        })
        const [result] = await Promise.all([work, load])
        return result
      }
      await ping()
      const load = `${perSecond.pollsUnderLoad} polls a second`
      const dead = `${perSecond.deadPings} decisions a second for an endpoint that never answers`
      return [
        { engine, how: 'nothing else', pinged: await ping() },
        { engine, how: load, pinged: await meanwhile(ping()) },
        { engine, how: `${load}, ${dead}`, pinged: await meanwhile(ping(perSecond.deadPings)) },
      ]
    })
  } finally {
    await client.stop()
  }
}

async function withServer<Result>(
  setup: DoorbellSetup,
  { start }: BenchStage,
  work: (server: Part) => Promise<Result>,
): Promise<Result> {
  const server = await start('doorbell', setup)
  try {
    return await work(server)
  } finally {
    await server.stop()
  }
}

function write(sized: Sized[], called: Called[]): string {
  return [
    '### Targets',
    table(['what', 'engine', 'measured', 'target', ''], wanted(sized, called)),
    '### By the number of open requests',
    `First polls at ${perSecond.first} a second, later polls at ${perSecond.later}, requests at ${perSecond.rings}, over ${connections} connections. A first
poll is the first one that the process receives for a request.`,
    table(
      [
        'engine',
        'open requests',
        'first poll p50 ms',
        'p99',
        'later poll p50 ms',
        'p99',
        'request p50 ms',
        'p99',
        'start ms',
        'MB idle',
        'MB after',
        'MB on disk',
      ],
      sized.map(({ engine, size, rounds, starting, idle, afterwards, disk }) => [
        engine,
        grouped(size),
        ...(['first', 'later', 'rings'] as const).flatMap((what) => {
          const latencies = rounds.flatMap((round) => round[what].latencies!)
          return [figure(at(latencies, 0.5)), figure(at(latencies, 0.99))]
        }),
        figure(starting),
        megabytes(idle),
        megabytes(afterwards),
        megabytes(disk),
      ]),
    ),
    '### Expiry sweep',
    table(
      ['engine', 'open requests', 'none expired, ms', 'expired', 'ms', 'settled per second', 'filling the table, s'],
      sized.map(({ engine, size, sweepOfNothing, sweep, filling }) => [
        engine,
        grouped(size),
        figure(sweepOfNothing),
        grouped(sweep.settled),
        figure(sweep.milliseconds),
        figure((sweep.settled / sweep.milliseconds) * 1000),
        figure(filling / 1000),
      ]),
    ),
    '### From a decision to its ping',
    `From sending the decision to the arrival of the ping at the client, over TLS on this machine, ${perSecond.pings} decisions
a second.`,
    table(
      ['engine, meanwhile', 'p50 ms', 'p99 ms', 'longest ms', 'pings', 'missing'],
      called.map(({ engine, how, pinged: { latencies, missing } }) => [
        `${engine}: ${how}`,
        figure(at(latencies, 0.5)),
        figure(at(latencies, 0.99)),
        figure(at(latencies, 1)),
        grouped(latencies.length),
        grouped(missing),
      ]),
    ),
  ].join('\n\n')
}

/** Returns the limits that the design promises, with the measured values and whether they keep the limits. */
function wanted(sized: Sized[], called: Called[]): string[][] {
  const row = (what: string, engine: string, value: number, most: number, unit: string) => [
    what,
    engine,
    `${figure(value)}${unit}`,
    `≤ ${most}${unit}`,
    value <= most ? 'holds' : 'missed',
  ]
  return engines.flatMap((engine) => {
    const own = sized.filter((each) => each.engine === engine)
    const [least, most] = [own[0]!, own.at(-1)!]
    const compared = `${grouped(most.size)} open requests beside ${grouped(least.size)}`
    const underLoad = called.filter((each) => each.engine === engine)[1]!
    return [
      ...(own.length < 2
        ? []
        : [
            row(`first poll p50, ${compared}`, engine, slower(most, least, 'first'), 1.5, ' ×'),
            row(`later poll p50, ${compared}`, engine, slower(most, least, 'later'), 1.5, ' ×'),
          ]),
      row(`start with ${grouped(most.size)} open requests`, engine, most.starting, 1000, ' ms'),
      row(`idle memory with ${grouped(most.size)} open requests`, engine, most.idle / 1024 / 1024, 120, ' MB'),
      row('decision to ping under load, p50', engine, at(underLoad.pinged.latencies, 0.5), 5, ' ms'),
    ]
  })
}

/** Returns the median over the rounds of the ratio of the two latencies. */
function slower(one: Sized, other: Sized, what: 'first' | 'later'): number {
  return median(one.rounds.map((round, number) => round[what].p50 / other.rounds[number]![what].p50))
}

function at(latencies: number[], share: number): number {
  const sorted = latencies.toSorted((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

await main()
