/**
 * Checks two nodes behind nginx, then behind HAProxy, with the configurations in docs/proxies. Honest clients call
 * continuously while the nodes are restarted one after the other. No call may fail. Then the database is unreachable
 * for a while. During this time, calls must succeed or be refused with 503 and Retry-After. Takes four minutes, and
 * needs both proxies (`apt-get install nginx haproxy`).
 *
 *     node checks/rolling-restart.ts [nginx|haproxy]
 */
import type { ChildProcess } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { Agent, request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { newSecret } from '../src/platform/crypto.ts'
import { freePort } from '../test/support/ports.ts'
import { type RestartablePostgres, startRestartablePostgres } from '../test/support/postgres.ts'
import { begin, chosenProxies, end, inFolder, proxies, startProxy, untilReady } from './proxy-programs.ts'

const CIBA = 'urn:openid:params:grant-type:ciba'
const bin = fileURLToPath(new URL('../bin/doorbell.js', import.meta.url))
const kiosk = newSecret()
const phones = newSecret()
/** The number of clients. Each of them sends one call after the other on a connection that is kept alive. */
const callers = 12
/**
 * Each client sends requests about a different user, so that the newest request about this user was sent by this
 * client.
 */
const people = Array.from({ length: callers }, (_, number) => ({ username: `user-${number}` }))
/**
 * The pause of each client between two calls, in milliseconds. All clients together send about two hundred calls per
 * second. This is a low load for a server.
 */
const restMs = 40
/** Milliseconds for which the database is unreachable. */
const awayMs = 5_000
/** The number of times that both nodes are restarted. */
const rounds = 2

interface Node {
  port: number
  process: ChildProcess
}

const chosen = chosenProxies(process.argv.slice(2), ['nginx', 'haproxy'])
await inFolder(async (folder) => {
  const postgres = await startRestartablePostgres()
  try {
    for (const name of chosen) await check(name, { postgres, folder })
  } finally {
    await postgres.stop()
  }
})

interface Surroundings {
  postgres: RestartablePostgres
  folder: string
}

async function check(name: string, surroundings: Surroundings): Promise<void> {
  const nodes = [await startNode(await freePort(), surroundings), await startNode(await freePort(), surroundings)]
  const port = await freePort()
  const { folder } = surroundings
  const { takesBackAfterMs } = proxies[name]!
  const proxy = await startProxy(name, { port, nodes: nodes.map((node) => node.port) }, folder)
  await untilReady(`http://127.0.0.1:${port}`)
  const load = startLoad(port)
  await pause(2_000)
  for (let round = 0; round < rounds; round++) for (const node of nodes) await restart(node, takesBackAfterMs, folder)
  await pause(2_000)
  const { calls, flows, failed } = await load.stop()
  console.log(
    `${name}: ${rounds * nodes.length} restarts, ${calls} calls, ${flows} whole flows, ${failed.length} failed calls`,
  )
  for (const failure of failed.slice(0, 20)) console.log(`  ${failure}`)
  if (failed.length > 0 || flows === 0) {
    process.exitCode = 1
    console.log(await readFile(join(folder, 'nginx.log'), 'utf8').catch(() => ''))
  }
  await loseDatabase(name, port, surroundings)
  proxy.kill('SIGTERM')
  for (const { process: child } of nodes) await end(child)
}

/**
 * Makes the database unreachable. During this time, a 503 with Retry-After is correct, and every other error is a
 * failure.
 */
async function loseDatabase(name: string, port: number, { postgres }: Surroundings): Promise<void> {
  const load = startLoad(port, { mayBeAway: true })
  await pause(1_000)
  await postgres.end('crashed')
  await pause(awayMs)
  await postgres.start()
  await untilReady(`http://127.0.0.1:${port}`)
  await pause(proxies[name]!.takesBackAfterMs)
  const { calls, away, failed } = await load.stop()
  const after = startLoad(port)
  await pause(2_000)
  const { flows, failed: failedAfterwards } = await after.stop()
  console.log(
    `${name}: the database was away for ${awayMs / 1000} s: ${calls} calls, ${away} told to come again, ${failed.length} failed; afterwards ${flows} whole flows, ${failedAfterwards.length} failed calls`,
  )
  for (const failure of [...failed, ...failedAfterwards].slice(0, 20)) console.log(`  ${failure}`)
  if (failed.length + failedAfterwards.length > 0 || away === 0 || flows === 0) process.exitCode = 1
}

async function startNode(port: number, { postgres, folder }: Surroundings): Promise<Node> {
  const file = join(folder, `node-${port}.json`)
  const configuration = {
    issuer: 'https://id.example.com',
    host: '127.0.0.1',
    port,
    database: postgres.url,
    secret: Buffer.alloc(32, 7).toString('base64url'),
    proxy: { trust: ['127.0.0.1'] },
    requests: { maxOpenPerUser: 1000 },
    limits: { perUser: { perMinute: 0 }, perClientAndUser: { perMinute: 0, open: 0 } },
    logLevel: 'fatal',
    clients: [
      { client_id: 'kiosk', client_secret: kiosk, grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' },
      { client_id: 'phones', client_secret: phones, backchannel_device_service: true },
    ],
    users: people,
  }
  await writeFile(file, JSON.stringify(configuration))
  const node = { port, process: spawnNode(file) }
  await untilReady(`http://127.0.0.1:${port}`)
  return node
}

function spawnNode(file: string): ChildProcess {
  return begin(process.execPath, [bin, 'serve', '--config', file, '--migrate'])
}

/** @param takesBackAfterMs the balancer detects within this many milliseconds that the node is ready again */
async function restart(node: Node, takesBackAfterMs: number, folder: string): Promise<void> {
  const asked = performance.now()
  const code = await end(node.process)
  const took = performance.now() - asked
  console.log(`  node ${node.port}: ended with ${code} after ${(took / 1000).toFixed(1)} s`)
  if (code !== 0) process.exitCode = 1
  node.process = spawnNode(join(folder, `node-${node.port}.json`))
  await untilReady(`http://127.0.0.1:${node.port}`)
  await pause(takesBackAfterMs)
}

/**
 * Runs flows again and again until it is stopped: a request, a decision, tokens, and one more poll.
 *
 * @param options.mayBeAway whether calls may be refused with 503 and Retry-After
 */
function startLoad(port: number, { mayBeAway = false } = {}) {
  const failed: string[] = []
  let calls = 0
  let away = 0
  let flows = 0
  let isOver = false

  async function call(agent: Agent, path: string, as: string, form: Record<string, string>, expected: number) {
    await pause(restMs)
    calls += 1
    try {
      const { status, text, retryAfter } = await post(port, agent, path, as, form)
      if (
        mayBeAway &&
        status === 503 &&
        retryAfter !== undefined &&
        JSON.parse(text).error === 'temporarily_unavailable'
      ) {
        away += 1
        return undefined
      }
      if (status === expected) return text === '' ? {} : (JSON.parse(text) as Record<string, string>)
      failed.push(`${path}: ${status} instead of ${expected}: ${text.replaceAll(/\s+/g, ' ').slice(0, 120)}`)
    } catch (error) {
      failed.push(`${path}: ${error instanceof Error ? error.message : error}`)
    }
    return undefined
  }

  async function flow(agent: Agent, login_hint: string): Promise<void> {
    const rung = await call(agent, '/backchannel/authorize', `kiosk:${kiosk}`, { scope: 'openid', login_hint }, 200)
    const waiting = rung && (await call(agent, '/backchannel/authinfo', `phones:${phones}`, { login_hint }, 200))
    if (waiting === undefined) return
    const [{ request_id }] = waiting.requests as unknown as [{ request_id: string }]
    const decision = { login_hint, request_id, status: 'approved' }
    const decided = await call(agent, '/backchannel/complete', `phones:${phones}`, decision, 200)
    if (decided === undefined) return
    const poll = { grant_type: CIBA, auth_req_id: rung!.auth_req_id! }
    const tokens = await call(agent, '/oauth/token', `kiosk:${kiosk}`, poll, 200)
    if (tokens === undefined) return
    await call(agent, '/oauth/token', `kiosk:${kiosk}`, poll, 400)
    flows += 1
  }

  const working = Array.from({ length: callers }, async (_, number) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    while (!isOver) await flow(agent, people[number]!.username)
    agent.destroy()
  })
  return {
    async stop() {
      isOver = true
      await Promise.all(working)
      return { calls, flows, away, failed }
    },
  }
}

function post(port: number, agent: Agent, path: string, as: string, form: Record<string, string>) {
  return new Promise<{ status: number; text: string; retryAfter: string | undefined }>((resolve, reject) => {
    const headers = {
      host: 'id.example.com',
      'content-type': 'application/x-www-form-urlencoded',
      authorization: `Basic ${Buffer.from(as).toString('base64')}`,
    }
    const sent = httpRequest({ host: '127.0.0.1', port, path, method: 'POST', agent, headers, timeout: 20_000 })
    sent.on('timeout', () => sent.destroy(new Error('no answer within twenty seconds')))
    sent.on('error', reject).on('response', (answer) => {
      let text = ''
      answer.on('data', (chunk) => {
        text += chunk
      })
      const retryAfter = answer.headers['retry-after']
      answer.on('error', reject).on('end', () => resolve({ status: answer.statusCode ?? 0, text, retryAfter }))
    })
    sent.end(String(new URLSearchParams(form)))
  })
}
