/** Tests servers behind PgBouncer, in every pool mode and with several pool sizes. Started by run.sh. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import { newSecret } from '../../src/platform/crypto.ts'
import { freePort } from '../../test/support/ports.ts'
import { startPostgres } from '../../test/support/postgres.ts'

const CIBA = 'urn:openid:params:grant-type:ciba'
const bin = fileURLToPath(new URL('../../bin/doorbell.js', import.meta.url))
const kiosk = newSecret()
const phones = newSecret()
/** The number of concurrent flows on each node. It is higher than the number of connections of a node. */
const flowsAtOnce = 24
/** A server must refuse a call within this time. PgBouncer itself lets connections wait for two minutes. */
const longestRefusalMs = 60_000

/** PgBouncer opens at most two sessions, and uses them in turn. */
const inTurn = 'server_round_robin = 1\ndefault_pool_size = 2'

/** Matches the log line about a pool with too few sessions. */
const tooFew = /has too few sessions: each server needs as many as the setting postgres\.connections says/

/** The account that runs PgBouncer, because PgBouncer refuses to run as root. */
const account = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : undefined
const folder = await mkdtemp(join(tmpdir(), 'doorbell-pgbouncer-'))
await chmod(folder, 0o755)
const started: ChildProcess[] = []
process.on('exit', () => {
  for (const child of started) child.kill('SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))

const postgres = await startPostgres()
try {
  const first = await startPooler('session')
  assert.equal(spawnSync(process.execPath, [bin, 'migrate', '--config', await configure(first.url)]).status, 0)
  if (process.argv[2] !== 'sizes') await modesWithoutSessions()
  await twoNodes(first)
  await twoPoolers()
  await tooFewSessions()
  console.log('All of it holds.')
} finally {
  for (const child of started) await end(child)
  await postgres.stop()
  await rm(folder, { recursive: true, force: true })
}

/**
 * Checks the modes `transaction` and `statement`: neither the server nor the commands start, and `doctor` prints the
 * reason.
 */
async function modesWithoutSessions(): Promise<void> {
  for (const mode of ['transaction', 'statement']) {
    for (const extra of ['', 'server_round_robin = 1', 'min_pool_size = 10', 'default_pool_size = 1', inTurn]) {
      const pooler = await startPooler(mode, extra)
      if (extra === inTurn) await useSessions(pooler, 2)
      const file = await configure(pooler.url)
      for (const command of [['serve'], ['requests'], ['doctor']]) {
        const { status, stdout, stderr } = run([...command, '--config', file])
        assert.equal(status, 1, `${mode}, ${extra}, ${command}: ${stdout}${stderr}`)
        assert.match(stdout + stderr, /a pooler in transaction or statement mode, .*pool_mode = session/)
      }
      await end(pooler.process)
    }
    console.log(`pool_mode = ${mode}: refused, with the reason`)
  }
}

/** Checks two nodes with eight connections each, with PgBouncer's default pool of twenty sessions. */
async function twoNodes(pooler: Pooler): Promise<void> {
  const nodes = [await startNode(pooler.url, 8), await startNode(pooler.url, 8)]
  const took = await flowsOn(nodes)
  const sessions = await sessionsNow()
  console.log(
    `two nodes with 8 connections: ${took.length} flows, the longest ${Math.max(...took)} ms, ${sessions} sessions`,
  )
  // Each node needs one connection more than the eight, for LISTEN. So the nodes use at most 18 sessions.
  assert.ok(sessions <= 18)
  for (const { process: child } of nodes) await end(child)
}

/** Checks a URL with two poolers: when one of them ends, the flows continue at the other. */
async function twoPoolers(): Promise<void> {
  const [one, other] = [await startPooler('session'), await startPooler('session')]
  const ports = [one, other].map(({ port }) => `127.0.0.1:${port}`).join(',')
  const node = await startNode(`postgres://postgres@${ports}/postgres`, 4)
  await flowsOn([node])
  await end(one.process)
  await untilReady(node.port)
  const took = await flowsOn([node])
  console.log(`the first of two poolers has ended: ${took.length} flows at the other one`)
  await end(node.process)
}

/**
 * Checks a pool with too few sessions. A call is refused after five seconds, although PgBouncer would let its
 * connection wait for longer. The log gives the reason.
 */
async function tooFewSessions(): Promise<void> {
  const few = await startPooler('session', 'default_pool_size = 2')
  const { status, stderr } = run(['serve', '--config', await configure(few.url, { port: await freePort() })])
  assert.equal(status, 1, stderr)
  assert.match(stderr, tooFew)
  console.log('2 sessions for 11 connections: the server does not start, with the reason')

  const pooler = await startPooler('session', 'default_pool_size = 8')
  const node = await startNode(pooler.url, 10)
  const release = await lockRequests()
  const begin = performance.now()
  const calls = Array.from({ length: flowsAtOnce }, (_, number) =>
    post(node.port, '/backchannel/authinfo', 'phones', { login_hint: `u${number}` }),
  )
  await Promise.race([...calls, pause(longestRefusalMs, undefined, { ref: false })])
  const tookMs = Math.round(performance.now() - begin)
  await release()
  const answers = await Promise.all(calls)
  const refused = answers.filter((answer) => answer.status === 503).length
  console.log(
    `8 sessions for 11 connections: ${refused} calls of ${answers.length} refused, the first after ${tookMs} ms`,
  )
  assert.ok(answers.every((answer) => answer.status === 200 || answer.status === 503))
  assert.ok(refused > 0 && tookMs < longestRefusalMs)
  await end(node.process)
  const lines = node.log().split('\n')
  assert.ok(
    lines.some((line) => tooFew.test(line)),
    lines
      .filter((line) => /503|"level":[45]0/.test(line))
      .slice(-8)
      .join('\n'),
  )
}

/**
 * Locks the table of requests, so that statements wait and each call occupies a connection. Without the lock, a fast
 * machine would answer the calls one after the other on a few connections. Resolves to the function that ends the lock.
 */
async function lockRequests(): Promise<() => Promise<void>> {
  const client = new Client({ connectionString: postgres.url })
  await client.connect()
  await client.query('begin; lock table backchannel_auth_requests in access exclusive mode')
  return () => client.end()
}

function run(command: string[]) {
  return spawnSync(process.execPath, [bin, ...command], { encoding: 'utf8', timeout: 60_000 })
}

/** Uses `count` sessions at the same time. PgBouncer keeps them open afterwards. */
async function useSessions({ url }: Pooler, count: number): Promise<void> {
  const clients = Array.from({ length: count }, () => new Client({ connectionString: url }))
  await Promise.all(
    clients.map(async (client) => {
      await client.connect()
      await client.query('select pg_sleep(1)')
      await client.end()
    }),
  )
}

interface Pooler {
  port: number
  url: string
  process: ChildProcess
}

async function startPooler(mode: string, more = ''): Promise<Pooler> {
  const port = await freePort()
  const file = join(folder, `${port}.ini`)
  const { hostname, port: at } = new URL(postgres.url)
  await writeFile(
    file,
    `[databases]
postgres = host=${hostname} port=${at} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = ${mode}
${more}
`,
  )
  if (account) await chown(file, account.uid, account.gid)
  const child = spawn('pgbouncer', [file], { ...account, cwd: folder, stdio: ['ignore', 'ignore', 'ignore'] })
  started.push(child)
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  for (let tries = 0; tries < 100; tries++) {
    if (await accepts(url)) return { port, url, process: child }
    await pause(50)
  }
  throw new Error(`PgBouncer did not start: ${mode} ${more}`)
}

async function accepts(url: string): Promise<boolean> {
  const client = new Client({ connectionString: url })
  client.on('error', () => {})
  return client.connect().then(
    () => client.end().then(() => true),
    () => false,
  )
}

interface Node {
  port: number
  process: ChildProcess
  log(): string
}

async function startNode(url: string, connections: number): Promise<Node> {
  const port = await freePort()
  const file = await configure(url, { port, postgres: { connections } })
  const child = spawn(process.execPath, [bin, 'serve', '--config', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  started.push(child)
  let text = ''
  child.stderr.on('data', (chunk) => {
    text += chunk
  })
  await untilReady(port).catch((error: unknown) => {
    throw new Error(`the node did not start: ${text}`, { cause: error })
  })
  return { port, process: child, log: () => text }
}

async function configure(database: string, more: object = {}): Promise<string> {
  const file = join(folder, `${newSecret(6)}.json`)
  const configuration = {
    issuer: 'https://id.example.com',
    host: '127.0.0.1',
    database,
    secret: Buffer.alloc(32, 7).toString('base64url'),
    shutdown: { delay: 0 },
    requests: { maxOpenPerUser: 1000 },
    limits: { perUser: { perMinute: 0 }, perClientAndUser: { perMinute: 0, open: 0 } },
    clients: [
      { client_id: 'kiosk', client_secret: kiosk, grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' },
      { client_id: 'phones', client_secret: phones, backchannel_device_service: true },
    ],
    users: Array.from({ length: 2 * flowsAtOnce }, (_, number) => ({ username: `u${number}` })),
    ...more,
  }
  await writeFile(file, JSON.stringify(configuration))
  return file
}

/** Runs three rounds of flows. Resolves to the duration of each round, in milliseconds. */
async function flowsOn(nodes: Node[]): Promise<number[]> {
  const took: number[] = []
  for (let round = 0; round < 3; round++) {
    const flows = nodes.flatMap(({ port }, node) =>
      Array.from({ length: flowsAtOnce }, async (_, number) => {
        const begin = performance.now()
        await flow(port, `u${node * flowsAtOnce + number}`)
        took.push(Math.round(performance.now() - begin))
      }),
    )
    await Promise.all(flows)
  }
  return took
}

function request(login_hint: string) {
  return { scope: 'openid', login_hint }
}

async function flow(port: number, login_hint: string): Promise<void> {
  const { auth_req_id } = await expectOk(port, '/backchannel/authorize', 'kiosk', request(login_hint))
  const { requests } = await expectOk(port, '/backchannel/authinfo', 'phones', { login_hint })
  const [{ request_id }] = requests as [{ request_id: string }]
  await expectOk(port, '/backchannel/complete', 'phones', { login_hint, request_id, status: 'approved' })
  const tokens = await expectOk(port, '/oauth/token', 'kiosk', { grant_type: CIBA, auth_req_id: String(auth_req_id) })
  assert.ok(tokens.access_token)
}

async function expectOk(port: number, path: string, as: 'kiosk' | 'phones', form: Record<string, string>) {
  const { status, text } = await post(port, path, as, form)
  assert.equal(status, 200, `${path}: ${text}`)
  return (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>
}

async function post(port: number, path: string, as: 'kiosk' | 'phones', form: Record<string, string>) {
  const secrets = { kiosk, phones }
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${as}:${secrets[as]}`).toString('base64')}` },
    body: new URLSearchParams(form),
  })
  return { status: response.status, text: await response.text() }
}

async function sessionsNow(): Promise<number> {
  const client = new Client({ connectionString: postgres.url })
  await client.connect()
  const { rows } = await client.query(
    "select count(*)::int as n from pg_stat_activity where application_name = 'doorbell'",
  )
  await client.end()
  return rows[0].n
}

async function untilReady(port: number): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    // The time limit is needed because a response that never arrives would stop the whole check.
    const signal = AbortSignal.timeout(5_000)
    const isReady = await fetch(`http://127.0.0.1:${port}/health/ready`, { signal }).then(
      ({ status }) => status === 200,
      () => false,
    )
    if (isReady) return
    await pause(100)
  }
  throw new Error(`nothing is ready on port ${port}`)
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await Promise.race([ended, pause(5_000, undefined, { ref: false })])
  child.kill('SIGKILL')
}
