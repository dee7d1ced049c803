/**
 * The plans of `npm run bench:attack`: each has an attack, the rows that exist before the attack, and the work of
 * honest clients.
 */
import { createSocket } from 'node:dgram'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { certifyServer } from '../test/support/certificates.ts'
import type { Served, Server } from './attack.ts'
import { secretOf, userOf } from './cast.ts'
import { fillDelivered, fillRedeemed } from './fill.ts'
import type { Attack } from './parts/attacker.ts'
import type { Pinged, PingJob } from './parts/called-back.ts'
import type { DoorbellSetup } from './parts/doorbell.ts'
import type { BenchStage } from './stage.ts'

export type { Attack }

export interface AttackPlan {
  name: string
  title: string
  /** The calls of the attacker. Undefined if only full tables or a silent name server affect the honest clients. */
  attack?: Attack
  honest(stage: BenchStage): Promise<Honest>
  /** The number of rounds. Set if the results of this attack vary too much for the usual number. */
  rounds?: number
  /** Adds the rows that the tables contain when the attack begins. */
  fill?(server: Server, rows: number): Promise<void>
  /** Returns the program that runs the server. Default: Node. */
  program?(): { program: string }
  /** Returns why this attack cannot run on this machine, or undefined if it can. */
  impossibleHere?(): string | undefined
}

/** The work of honest clients, and the settings of their server. */
export interface Honest {
  settings: NonNullable<DoorbellSetup['more']>
  serve(server: Server, how: { at: string; seconds: number; isAttacked: boolean }): Promise<Served>
  end(): Promise<void>
}

/** The number of users in the built-in directory. It is so high that no limit for one user is reached. */
const users = 3000
const password = 'correct horse battery staple'
/** For pages that keep an event stream open: the number of users, and the number of pages of each user. */
const listening = { users: 25, pagesOfEach: 4 }
const connections = 16
/**
 * The number of decisions per second for the client that is pinged. Under attack, there are as many decisions for a
 * client whose host name cannot be resolved.
 */
const pingsPerSecond = 20

/** The path of the program that `withSilentNameServer` has created. */
let silenced: string | undefined

/** Makes the server use a name server that never answers. */
const underSilentNameServer: Pick<AttackPlan, 'program' | 'impossibleHere'> = {
  program() {
    silenced ??= withSilentNameServer()
    return { program: silenced }
  },
  impossibleHere: () =>
    process.platform === 'linux' && process.getuid?.() === 0
      ? undefined
      : 'needs Linux and root, to give the server a name server of its own',
}

const redirectUri = 'https://web.example/callback'

/**
 * Limits for one user are disabled or raised, because there are so few users that they would reach the usual limits.
 */
const limits = {
  perUser: { open: 1000, perMinute: 0 },
  perClientAndUser: { open: 0, perMinute: 0 },
  pauseAfterDenial: { first: 0 },
}

export const plans: AttackPlan[] = [
  {
    name: 'full-table',
    title: 'No attacker: a table with a million finished requests of the client that asks',
    honest: (stage) => tokensIssued(stage),
    fill: ({ url }, rows) => fillRedeemed(url, 'till', rows),
  },
  {
    name: 'ready',
    title: '40 connections ask /health/ready, where a million notifications have been delivered',
    attack: { kind: 'ready' },
    honest: (stage) => tokensIssued(stage),
    fill: ({ url }, rows) => fillDelivered(url, rows),
  },
  {
    name: 'passwords',
    title: '150 at once try wrong passwords: 50 from one address, 100 from networks of one IPv6 /48',
    attack: { kind: 'passwords', users },
    // The results vary, because hashing competes with all other work for processors and memory.
    rounds: 8,
    honest: (stage) => tokensIssued(stage, directory(0)),
  },
  {
    name: 'pages',
    title: `${listening.users * listening.pagesOfEach} pages of ${listening.users} users keep an event stream open`,
    attack: { kind: 'pages', ...listening, password },
    honest: (stage) => tokensIssued(stage, directory(listening.users)),
  },
  {
    name: 'assertions',
    title: '1100 calls every 5 s with unverifiable assertions for a client whose jwks_uri hangs',
    attack: { kind: 'assertions', client: 'hanging' },
    async honest(stage) {
      const { caller, endpoints } = await calledBack(stage)
      const client = {
        client_id: 'hanging',
        grant_types: ['urn:openid:params:grant-type:ciba'],
        backchannel_token_delivery_mode: 'poll' as const,
        token_endpoint_auth_method: 'private_key_jwt' as const,
        jwks_uri: `${endpoints.dead}jwks`,
      }
      const honest = await tokensIssued(stage, { clients: [client], notifications: { allowPrivateNetworks: true } })
      return { ...honest, end: () => caller.stop() }
    },
  },
  {
    name: 'registrations',
    title: '1100 unknown clients register every 5 s; the name server of their sector lists is silent',
    attack: { kind: 'registrations' },
    async honest(stage) {
      const silent = await openSilentNameServer()
      const honest = await tokensIssued(stage, { registration: { mode: 'open', perHour: 100_000 } })
      return { ...honest, end: async () => silent.close() }
    },
    ...underSilentNameServer,
  },
  {
    name: 'name-server',
    title: 'The name server of one receiver is silent; honest clients get tokens, and others are pinged meanwhile',
    honest: tokensIssuedWhilePinged,
    ...underSilentNameServer,
  },
  {
    name: 'name-server-pings',
    title: 'The name server of one receiver is silent; honest clients are pinged, each over a new connection',
    honest: pinged,
    ...underSilentNameServer,
  },
  {
    name: 'sign-ins',
    title:
      '8 connections begin sign-ins, every second one with 12 kB of parameters, up to 200 a second, and leave them',
    attack: { kind: 'sign-ins', client: 'web', redirectUri },
    honest: (stage) => {
      const client = {
        client_id: 'web',
        client_secret: secretOf('web'),
        redirect_uris: [redirectUri],
        grant_types: ['authorization_code'],
        response_types: ['code'],
      }
      return tokensIssued(stage, { clients: [client] })
    },
  },
]

function directory(withPassword: number): Honest['settings'] {
  const listed = Array.from({ length: users }, (_, number) => ({
    id: userOf(number),
    username: userOf(number),
    ...(number < withPassword && { password }),
  }))
  return { users: listed }
}

async function tokensIssued(stage: BenchStage, settings: Honest['settings'] = {}): Promise<Honest> {
  const play = { kind: 'flow', client: 'till', alg: 'ES256', approves: 'device api', users } as const
  return {
    settings: { proxy: { trust: ['127.0.0.1'] }, limits, ...settings },
    async serve({ part }, { at, seconds }) {
      const played = await stage.load({ port: part.port, at, play, connections, seconds, countsFailures: true })
      return { perSecond: played.operations / played.seconds, p99: played.p99, failed: played.failed }
    },
    end: async () => {},
  }
}

/**
 * Measures how many tokens are issued. Meanwhile, pings are sent to the honest client and, under attack, to the client
 * whose host name cannot be resolved.
 */
async function tokensIssuedWhilePinged(stage: BenchStage): Promise<Honest> {
  const pings = await pinged(stage)
  const tokens = await tokensIssued(stage, pings.settings)
  return {
    settings: tokens.settings,
    async serve(server, how) {
      const [issued, arrived] = await Promise.all([tokens.serve(server, how), pings.serve(server, how)])
      return { ...issued, failed: issued.failed + arrived.failed }
    },
    end: pings.end,
  }
}

async function calledBack(stage: BenchStage) {
  const { authority, server } = await certifyServer()
  const caller = await stage.start('called-back', { cert: server.cert, key: server.key, closes: true })
  const endpoints = await caller.ask<{ pinged: string; dead: string }>('endpoints')
  return { caller, endpoints, ca: authority.cert }
}

/** Measures pings. Each ping needs a new connection, and therefore a new lookup of the host name. */
async function pinged(stage: BenchStage): Promise<Honest> {
  const { caller, endpoints, ca } = await calledBack(stage)
  const silent = await openSilentNameServer()
  const client = (id: string, endpoint: string) => ({
    client_id: id,
    client_secret: secretOf(id),
    grant_types: ['urn:openid:params:grant-type:ciba'],
    backchannel_token_delivery_mode: 'ping' as const,
    backchannel_client_notification_endpoint: endpoint,
  })
  return {
    settings: {
      limits,
      notifications: { allowPrivateNetworks: true, ca },
      clients: [client('pinged', endpoints.pinged), client('dead', 'https://receiver.silent.example/')],
    },
    async serve({ part }, { seconds, isAttacked }) {
      const count = Math.ceil(seconds * pingsPerSecond)
      const dead = isAttacked && { deadPerSecond: pingsPerSecond }
      const job: PingJob = { port: part.port, count, perSecond: pingsPerSecond, ...dead }
      const { latencies, missing } = await caller.ask<Pinged>('ping', job)
      const sorted = latencies.toSorted((one, other) => one - other)
      const p99 = sorted[Math.floor(sorted.length * 0.99)] ?? Number.POSITIVE_INFINITY
      return { perSecond: latencies.length / seconds, p99, failed: missing }
    },
    async end() {
      silent.close()
      await caller.stop()
    },
  }
}

/** An address of this machine that no other program uses. */
const silentAddress = '127.0.0.99'

/** Opens a name server that receives queries and never answers. */
function openSilentNameServer(): Promise<{ close(): void }> {
  const socket = createSocket('udp4')
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(53, silentAddress, () => resolve({ close: () => socket.close() }))
  })
}

/**
 * Returns the path of a program that runs Node with the silent name server as its only name server. The program uses a
 * mount namespace, so that the settings of the machine do not change.
 */
function withSilentNameServer(): string {
  const folder = mkdtempSync(join(tmpdir(), 'doorbell-bench-names-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const settings = join(folder, 'resolv.conf')
  writeFileSync(settings, `nameserver ${silentAddress}\n`)
  const program = join(folder, 'node')
  const inner = `mount --bind ${settings} /etc/resolv.conf && exec ${process.execPath} "$@"`
  writeFileSync(program, `#!/bin/sh\nexec unshare --mount --propagation private sh -c '${inner}' sh "$@"\n`)
  chmodSync(program, 0o755)
  return program
}
