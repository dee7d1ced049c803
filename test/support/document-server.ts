/** A server of documents that clients name, key sets say, which may stop answering. */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { until } from './until.ts'

export interface DocumentServer {
  /** Reached by its name, and at its address: two receivers. */
  byName: string
  byAddress: string
  /** Requests so far. */
  asked(): number
  /** Requests that have no answer yet. */
  hanging(): number
  /** What is answered from now on, whatever the path. Without it nothing is answered at all. */
  publish(document: unknown): void
  hang(): void
  /** Breaks off what hangs. */
  drop(): void
}

export async function openDocumentServer(t: TestContext): Promise<DocumentServer> {
  let document: { text: string } | undefined
  let asked = 0
  const hanging = new Set<ServerResponse>()
  const server = createServer((_request, response) => {
    asked += 1
    if (document !== undefined) return response.end(document.text)
    hanging.add(response)
    response.once('close', () => hanging.delete(response))
  })
  server.listen(0, 'localhost')
  await once(server, 'listening')
  const drop = () => {
    for (const response of hanging) response.destroy()
  }
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port, address, family } = server.address() as AddressInfo
  return {
    byName: `http://localhost:${port}/keys`,
    byAddress: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}/keys`,
    asked: () => asked,
    hanging: () => hanging.size,
    publish(content) {
      document = { text: JSON.stringify(content) }
    },
    hang() {
      document = undefined
    },
    drop,
  }
}

/** Answers as they come: how many there are so far, and what they say. */
export function gather<Answer extends { status: number }>(calls: Promise<Answer>[]) {
  const answers: Answer[] = []
  for (const call of calls) call.then((answer) => answers.push(answer))
  return {
    answers,
    statuses: () => [...new Set(answers.map(({ status }) => status))].sort(),
    /** Resolves when all but `most` have been answered; a thousand calls take their time on a busy machine. */
    allBut: (most: number) => until(() => answers.length >= calls.length - most, 120_000),
    all: () => Promise.all(calls),
  }
}
