/** Three servers, each a separate process, with clocks up to two seconds apart. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import { freePort } from '../../support/ports.ts'
import { type ServerProcess, startServer } from '../../support/process.ts'
import { castConfig } from '../../support/stage.ts'
import { type Json, type Play, userNames } from './play.ts'

/** Milliseconds by which the clocks of the nodes are ahead. */
const clocks = [-1000, 0, 1000]

export interface Node {
  number: number
  port: number
  process: ServerProcess
  /** The balancer does not use this node before this time. */
  awayUntil: number
}

export type Cluster = Awaited<ReturnType<typeof openCluster>>

export async function openCluster(play: Play, database: string, notify: string) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-nodes-'))
  const configFile = await writeConfig(folder, play, database, notify)
  const agent = new Agent({ connections: 256, headersTimeout: 0, bodyTimeout: 0 })
  /** Milliseconds that the balancer waits for a response. */
  const patienceMs = 3000
  const nodes: Node[] = []
  const past: string[] = []

  async function isUp({ port }: Pick<Node, 'port'>): Promise<boolean> {
    const asked = request(`http://127.0.0.1:${port}/health/ready`, {
      dispatcher: agent,
      signal: AbortSignal.timeout(1000),
    })
    const status = await asked.then(
      async ({ statusCode, body }) => {
        await body.dump()
        return statusCode
      },
      () => 0,
    )
    return status === 200
  }

  const launch = ({ port, number }: Pick<Node, 'port' | 'number'>) =>
    startServer(configFile, { port, clockAhead: clocks[number]!, isUp: () => isUp({ port }) })

  for (const number of [0, 1, 2]) {
    const port = await freePort()
    nodes.push({ number, port, process: await launch({ port, number }), awayUntil: 0 })
  }

  return {
    nodes,
    isUp,
    async start(node: Node): Promise<void> {
      past.push(...node.process.logLines)
      node.process = await launch(node)
    },
    logged(): Record<string, number> {
      const many: Record<string, number> = {}
      for (const line of [...past, ...nodes.flatMap((node) => node.process.logLines)]) {
        const { msg, event, error } = parse(line) as { msg?: string; event?: string; error?: Record<string, unknown> }
        const words = [event ?? msg ?? line, error?.message].filter(Boolean).join(': ')
        many[words] = (many[words] ?? 0) + 1
      }
      return many
    },
    async send({ port }: Node, path: string, form: Record<string, string>, authorization: string) {
      const { statusCode, headers, body } = await request(`http://127.0.0.1:${port}${path}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          ...(authorization !== '' && { authorization }),
        },
        body: String(new URLSearchParams(form)),
        dispatcher: agent,
        signal: AbortSignal.timeout(patienceMs),
      })
      const text = await body.text()
      return { status: statusCode, retryAfter: headers['retry-after'], body: parse(text) }
    },
    async close(): Promise<void> {
      for (const { process } of nodes) {
        process.goOn()
        await process.kill()
      }
      await agent.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function writeConfig(folder: string, play: Play, database: string, notify: string): Promise<string> {
  const configFile = join(folder, 'doorbell.config.json')
  // The issuer is the address of the balancer, on which no server listens.
  const issuerPort = await freePort()
  const users = userNames.map((name) => ({ id: `id-${name}`, username: name, email: `${name}@example.com` }))
  const config = castConfig(issuerPort, database, {
    northbank: notify,
    till: notify,
    config: {
      logLevel: 'error',
      users,
      issuer: `http://localhost:${issuerPort}`,
      notifications: { timeout: play.timeout, attempts: 50 },
      // Expired tokens are deleted, and could not be counted in the end.
      tokens: { accessTtl: 86_400 },
    },
  })
  await writeFile(configFile, JSON.stringify({ ...config, port: issuerPort + 1 }))
  return configFile
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json
  } catch {
    return {}
  }
}
