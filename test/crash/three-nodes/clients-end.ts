import { randomInt } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { until } from '../../support/until.ts'
import type { Json } from './play.ts'

export type ClientsEnd = Awaited<ReturnType<typeof openClientsEnd>>

/** The notification endpoint of all clients. It can delay its responses. */
export async function openClientsEnd() {
  const expected = new Map<
    string,
    { bearer: string; heard: PromiseWithResolvers<Json>; texts: Set<string>; calls: number }
  >()
  const complaints: string[] = []
  const held = new Set<ServerResponse>()
  let holding = false
  let cutOff = 0

  const server = createServer(async (incoming, response) => {
    let text = ''
    for await (const chunk of incoming) text += chunk
    const { auth_req_id: id } = JSON.parse(text) as { auth_req_id: string }
    const one = expected.get(id)
    if (one === undefined) return void response.writeHead(404).end()
    one.calls += 1
    one.texts.add(text)
    if (incoming.headers.authorization !== `Bearer ${one.bearer}`) complaints.push(`a wrong bearer for ${id}`)
    // All attempts must have the same content: another push would contain other tokens.
    if (one.texts.size > 1) complaints.push(`two texts for one request`)
    response.once('close', () => {
      held.delete(response)
      if (!response.writableFinished) cutOff += 1
    })
    if (holding) {
      held.add(response)
      return
    }
    // Sometimes the first call is answered with 500 and must be retried.
    if (one.calls === 1 && randomInt(20) === 0) return void response.writeHead(500).end()
    response.writeHead(204).end()
    one.heard.resolve(JSON.parse(text) as Json)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/notify`,
    complaints,
    get cutOff() {
      return cutOff
    },
    expect(id: string, bearer: string): void {
      expected.set(id, { bearer, heard: Promise.withResolvers(), texts: new Set(), calls: 0 })
    },
    told(id: string, patienceMs: number): Promise<Json> {
      const { promise } = expected.get(id)!.heard
      const late = pause(patienceMs, undefined, { ref: false }).then(() => Promise.reject(new Error('not told')))
      return Promise.race([promise, late])
    },
    repeated: () => [...expected.values()].filter(({ calls }) => calls > 1).length,
    /** From now on no call is answered; resolves when this many wait. */
    async holds(many: number): Promise<void> {
      holding = true
      await until(() => held.size >= many, 20_000)
    },
    /** Ends the delay: the waiting calls fail, as if the client had not received them. */
    release(): void {
      holding = false
      for (const response of held) response.writeHead(503).end()
    },
    async close(): Promise<void> {
      server.closeAllConnections()
      server.close()
    },
  }
}
