/**
 * Two clients that are pinged, and the service that decides about their requests. They run in one process, so that one
 * clock measures the time from a decision to its ping. The endpoint of the second client accepts connections and never
 * answers.
 */
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { newSecret } from '../../src/platform/crypto.ts'
import { paths } from '../cast.ts'
import { type Answer, type Line, openLine, post } from '../line.ts'
import { playPart } from '../part.ts'

export interface CalledBackSetup {
  cert: string
  key: string
  /** Whether the endpoint closes each connection after a response, so that every ping needs a new connection. */
  closes?: boolean
}

export interface PingJob {
  /** The port of the Doorbell server that is called. */
  port: number
  /** The number of decisions about requests of the client that answers. `perSecond` is the rate of these decisions. */
  count: number
  perSecond: number
  /** The rate of additional decisions about requests of the client that never answers. */
  deadPerSecond?: number
}

export interface Pinged {
  /** Milliseconds from sending the decision to the arrival of the ping. */
  latencies: number[]
  /** Pings that had not arrived ten seconds after the last decision. */
  missing: number
}

playPart(async ({ cert, key, closes = false }: CalledBackSetup) => {
  const decided = new Map<string, number>()
  const latencies: number[] = []
  let users = 0

  const alive = createTlsServer({ cert, key, keepAliveTimeout: 60_000 }, (request, response) => {
    const arrived = performance.now()
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { auth_req_id } = JSON.parse(Buffer.concat(chunks).toString()) as { auth_req_id: string }
      const since = decided.get(auth_req_id)
      decided.delete(auth_req_id)
      if (since !== undefined) latencies.push(arrived - since)
      response.writeHead(204, closes ? { connection: 'close' } : {}).end()
    })
  })
  const held = new Set<Socket>()
  const dead = createTcpServer((socket) => {
    held.add(socket)
    socket.on('error', () => {}).on('close', () => held.delete(socket))
  })
  await Promise.all(
    [alive, dead].map((server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))),
  )

  async function ringAndApprove(line: Line, client: 'pinged' | 'dead'): Promise<void> {
    const user = `${client}-user-${++users}`
    const form = `scope=openid&login_hint=${user}&binding_message=Coffee+4.20&client_notification_token=${newSecret(24)}`
    const rung = await say(line, post(paths.ring, form, client))
    const { auth_req_id: authReqId } = JSON.parse(rung.body) as { auth_req_id?: string }
    if (rung.status !== 200 || !authReqId) throw new Error(`rang, and was answered ${rung.status} ${rung.body}`)
    const decision = `auth_req_id=${authReqId}&login_hint=${user}&status=approved`
    const sending = performance.now()
    if (client === 'pinged') decided.set(authReqId, sending)
    const approved = await say(line, post('/backchannel/complete', decision, 'phone-service'))
    if (approved.status !== 200) throw new Error(`decided, and was answered ${approved.status} ${approved.body}`)
  }

  async function keepOn(port: number, client: 'pinged' | 'dead', perSecond: number, isOver: (done: number) => boolean) {
    const line = await openLine(port)
    const begin = performance.now()
    for (let done = 0; !isOver(done); done++) {
      const early = begin + (done * 1000) / perSecond - performance.now()
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early))
      await ringAndApprove(line, client)
    }
    line.close()
  }

  async function ping({ port, count, perSecond, deadPerSecond }: PingJob): Promise<Pinged> {
    latencies.length = 0
    decided.clear()
    let isOver = false
    const others = deadPerSecond ? keepOn(port, 'dead', deadPerSecond, () => isOver) : undefined
    try {
      await keepOn(port, 'pinged', perSecond, (done) => done >= count)
      for (let wait = 0; decided.size > 0 && wait < 1000; wait++) {
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    } finally {
      isOver = true
    }
    await others
    return { latencies: [...latencies], missing: decided.size }
  }

  const portOf = (server: typeof alive | typeof dead) => (server.address() as AddressInfo).port
  return {
    port: portOf(alive),
    answers: {
      ping,
      endpoints: () => ({ pinged: `https://localhost:${portOf(alive)}/`, dead: `https://localhost:${portOf(dead)}/` }),
    },
    async close() {
      for (const socket of held) socket.destroy()
      alive.closeAllConnections()
      alive.close()
      dead.close()
    },
  }
})

function say(line: Line, text: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    line.send(text, (answer) => (answer instanceof Error ? reject(answer) : resolve(answer)))
  })
}
