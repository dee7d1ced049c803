/**
 * `npm run bench`: compares Doorbell with oidc-provider, which has its own CIBA feature, and with two upper limits: an
 * HTTP server that always sends the same response, and a program that only signs tokens.
 *
 *     npm run bench                          everything, within 15 minutes; writes bench/results.md
 *     npm run bench -- --quick               about two minutes; prints only
 *     npm run bench -- --only pending-polls   one workload (may be repeated); prints only
 *
 * `--against <commit>` compares this build with the build of another commit instead (`against.ts`).
 *
 * `--write` always writes bench/results.md. `--rounds`, `--seconds` (for each round), `--requests` and `--connections`
 * replace the default numbers.
 *
 * Every workload has its own servers and databases. The servers of a workload run at the same time. A round measures
 * each server for a few seconds, one after the other. Each round begins with a different server, so that a disturbance
 * of the machine affects all servers. Ratios are computed for each round. An unexpected response ends the run.
 */
import { parseArgs } from 'node:util'
import { compareBuilds } from './against.ts'
import { fill } from './fill.ts'
import type { Part } from './part.ts'
import type { Job, Played } from './parts/load.ts'
import { circumstances, grouped, keepSection } from './report.ts'
import { type Results, type Round, type ServerName, type Workload, write } from './side-by-side.ts'
import { type BenchStage, onStage } from './stage.ts'

const full = { rounds: 5, seconds: 3, requests: 40_000, connections: 64 }
const quick = { rounds: 5, seconds: 0.5, requests: 8_000, connections: 64 }

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    requests: { type: 'string' },
    connections: { type: 'string' },
    against: { type: 'string' },
  },
})
const usual = options.quick ? quick : full
const rounds = Number(options.rounds ?? usual.rounds)
const seconds = Number(options.seconds ?? usual.seconds)
/** The number of open requests that are polled. */
const requests = Number(options.requests ?? usual.requests)
const connections = Number(options.connections ?? usual.connections)
/**
 * The interval between two polls, in seconds. With the default of 5 seconds, five times as many requests would be
 * needed.
 */
const interval = 1
/**
 * The number of requests for the workload of early polls. It is so small that each request is polled again before its
 * interval is over.
 */
const impatient = Math.max(connections * 2, 200)

/** Time limit for polling every request once, in seconds. Only a very slow server reaches it. */
const longestLap = 60

const everyServer: ServerName[] = [
  'Doorbell, SQLite',
  'Doorbell, Postgres',
  'oidc-provider, memory',
  'oidc-provider, Postgres',
]
const onPostgres = { of: 'Doorbell, Postgres', to: 'oidc-provider, Postgres' } as const
const embedded = { of: 'Doorbell, SQLite', to: 'oidc-provider, memory' } as const
const besideBare = [
  { of: 'Doorbell, SQLite', to: 'bare Node HTTP' },
  { of: 'Doorbell, Postgres', to: 'bare Node HTTP' },
] as const

const polling = { kind: 'poll', of: requests, among: requests, interval: interval * 1000 } as const

const tooEarly = { ...polling, client: 'till', of: impatient, interval: 0 } as const
const signedPolling = {
  ...polling,
  client: 'till-jwt',
  of: Math.min(requests, 10_000),
  expects: 'authorization_pending',
} as const

const workloads: Workload[] = [
  {
    name: 'pending-polls',
    title: `Pending polls over ${grouped(requests)} open requests, none too early`,
    servers: [...everyServer, 'bare Node HTTP'],
    filledFor: 'till',
    // Every request is polled once before the rounds, so that the caches are filled. In practice a request is polled
    // many times.
    before: () => ({ ...polling, client: 'till', expects: 'authorization_pending', once: true }),
    play: (server) => ({
      ...polling,
      client: 'till',
      expects: 'authorization_pending',
      ...(server === 'bare Node HTTP' && { interval: 0 }),
    }),
    compare: [
      { ...onPostgres, atLeast: 4 },
      { ...embedded, atLeast: 1 },
      ...besideBare.map((pair) => ({ ...pair, atLeast: 0.4 })),
    ],
  },
  {
    name: 'early-polls',
    title: `Polls that come too early, over ${grouped(impatient)} open requests`,
    servers: [...everyServer, 'bare Node HTTP'],
    filledFor: 'till',
    before: () => ({ ...tooEarly, expects: 'authorization_pending', once: true }),
    play: (server) => ({ ...tooEarly, expects: server.startsWith('Doorbell') ? 'slow_down' : 'authorization_pending' }),
    compare: [onPostgres, embedded, ...besideBare],
  },
  {
    name: 'jwt-polls',
    title: 'Pending polls with private_key_jwt (ES256), each with an assertion of its own',
    servers: everyServer,
    filledFor: 'till-jwt',
    before: () => ({ ...signedPolling, once: true, assertions: signedPolling.of }),
    // The number of assertions is estimated from the previous round, with a reserve.
    play: (_server, last) => ({
      ...signedPolling,
      assertions:
        Math.ceil(last === undefined ? 3000 * seconds : (last.operations / last.seconds) * seconds * 1.5) + 200,
    }),
    compare: [onPostgres, embedded],
  },
  {
    name: 'rings',
    title: 'Authentication requests, durable where there is a disk',
    servers: everyServer,
    play: () => ({ kind: 'ring', client: 'till' }),
    compare: [
      { ...onPostgres, atLeast: 3 },
      { ...embedded, atLeast: 1 },
    ],
  },
  ...(['ES256', 'RS256'] as const).map((alg) => wholeFlows(alg)),
]

function wholeFlows(alg: 'ES256' | 'RS256'): Workload {
  const play = (server: ServerName): Job['play'] => ({
    kind: 'flow',
    client: alg === 'ES256' ? 'till' : 'till-rs256',
    alg,
    approves: server.startsWith('Doorbell') ? 'device api' : 'bench route',
  })
  return {
    name: `flows-${alg.toLowerCase()}`,
    title: `Whole flows: request, approval, redemption, ID token ${alg}`,
    servers: [...everyServer, 'signing alone'],
    play,
    compare: [
      { ...onPostgres, atLeast: 3 },
      { ...embedded, atLeast: 1 },
      { of: 'Doorbell, Postgres', to: 'signing alone' },
    ],
  }
}

async function main(): Promise<void> {
  const chosen = workloads.filter(({ name }) => options.only === undefined || options.only.includes(name))
  if (chosen.length === 0) throw new Error(`--only takes ${workloads.map(({ name }) => name).join(', ')}`)
  const begin = performance.now()
  const { all, aboutPostgres } = await onStage(async (stage) => {
    const all: { workload: Workload; results: Results }[] = []
    for (const workload of chosen) {
      process.stderr.write(`${workload.title} …\n`)
      all.push({ workload, results: await measure(workload, stage) })
      await stage.stores.clear()
    }
    return { all, aboutPostgres: stage.stores.aboutPostgres }
  })
  const took = `${Math.round((performance.now() - begin) / 1000)} s`
  const how = `${options.quick ? 'quick run, ' : ''}${rounds} rounds of ${seconds} s, ${connections} connections, ${took}`
  const text = `## Side by side\n\n${circumstances(aboutPostgres, how)}\n\n${write(all)}`
  process.stdout.write(`${text}\n`)
  const isWhole = !options.quick && options.only === undefined
  if (isWhole || options.write) await keepSection('side by side', text)
}

async function measure(workload: Workload, stage: BenchStage): Promise<Results> {
  const servers = new Map<ServerName, Server>()
  const results: Results = new Map()
  const sizeOf = async ({ url }: Server) => (url === undefined ? undefined : stage.stores.sizeOf(url))
  try {
    for (const name of workload.servers) {
      const server = await start(name, workload, stage)
      servers.set(name, server)
      results.set(name, { rounds: [], idle: (await server.usage()).rss, afterwards: 0, grown: undefined })
    }
    const sizes = new Map<ServerName, number | undefined>()
    for (const [name, server] of servers) {
      await prepare(name, server, workload, stage)
      sizes.set(name, await sizeOf(server))
    }
    for (let round = 0; round < rounds; round++) {
      const turns = [...servers].map((_, index, all) => all[(index + round) % all.length]!)
      for (const [name, server] of turns) {
        const measured = results.get(name)!
        measured.rounds.push(await playRound(name, server, workload, measured.rounds.at(-1), stage))
        measured.afterwards = (await server.usage()).rss
      }
    }
    for (const [name, server] of servers) {
      const measured = results.get(name)!
      const operations = measured.rounds.reduce((sum, each) => sum + each.operations, 0)
      const size = await sizeOf(server)
      if (size !== undefined) measured.grown = (size - sizes.get(name)!) / operations
    }
  } finally {
    await Promise.all([...servers.values()].map((server) => server.stop()))
  }
  return results
}

interface Server extends Part {
  /** The URL of the server's database, if the database is on a disk. */
  url?: string
}

async function start(name: ServerName, { filledFor }: Workload, stage: BenchStage): Promise<Server> {
  const { stores, assertionKey } = stage
  const filling = { clientId: filledFor!, count: requests, interval }
  switch (name) {
    case 'Doorbell, SQLite':
    case 'Doorbell, Postgres': {
      const url = name === 'Doorbell, SQLite' ? stores.sqlite() : await stores.postgres()
      if (filledFor) await fill({ url, ...filling })
      return { ...(await stage.start('doorbell', { database: url, assertionKey, interval })), url }
    }
    case 'oidc-provider, memory':
    case 'oidc-provider, Postgres': {
      const store = name === 'oidc-provider, memory' ? 'memory' : await stores.postgres()
      const server = await stage.start('oidc-provider', { store, assertionKey })
      if (filledFor) await server.ask('fill', filling)
      return store === 'memory' ? server : { ...server, url: store }
    }
    case 'bare Node HTTP':
      return stage.start('bare')
    case 'signing alone':
      return stage.start('signing')
  }
}

/** Warms a server up, so that all its code is compiled and its caches are filled. */
async function prepare(name: ServerName, server: Part, workload: Workload, { load }: BenchStage): Promise<void> {
  if (name === 'signing alone') return
  const at = `${workload.name} ${name}`
  const ask = (play: Job['play'], seconds: number) => load({ port: server.port, at, play, connections, seconds })
  if (workload.before && name !== 'bare Node HTTP') await ask(workload.before(name), longestLap)
  await ask(workload.play(name, undefined), Math.min(1, seconds))
}

async function playRound(
  name: ServerName,
  server: Part,
  workload: Workload,
  last: Round | undefined,
  { load, stores }: BenchStage,
): Promise<Round> {
  const usages = async () => [await server.usage(), await stores.postgresCpu()] as const
  const before = await usages()
  const played =
    name === 'signing alone'
      ? await signAlone(server, workload)
      : await load({
          port: server.port,
          at: `${workload.name} ${name}`,
          play: workload.play(name, last),
          connections,
          seconds,
        })
  const after = await usages()
  const databaseCpu = !name.endsWith('Postgres') || before[1] === undefined ? undefined : after[1]! - before[1]
  return {
    ...played,
    perSecond: played.operations / played.seconds,
    cpu: (after[0].cpu - before[0].cpu) / played.operations,
    databaseCpu: databaseCpu === undefined ? undefined : databaseCpu / played.operations,
  }
}

async function signAlone(server: Part, { name }: Workload): Promise<Played> {
  const alg = name.endsWith('rs256') ? 'RS256' : 'ES256'
  const signed = await server.ask<{ operations: number; seconds: number }>('sign', {
    alg,
    seconds,
    atOnce: connections,
  })
  return { ...signed, p50: Number.NaN, p99: Number.NaN, most: Number.NaN, failed: 0, busy: Number.NaN, heldBack: false }
}

if (options.against === undefined) await main()
else
  await compareBuilds({
    commit: options.against,
    quick: options.quick,
    rounds: options.rounds === undefined ? undefined : rounds,
    seconds: options.seconds === undefined ? undefined : seconds,
    only: options.only,
    write: options.write,
  })
