/** A server of documents whose URLs clients register, such as key sets. It can stop responding. */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { until } from './until.ts'

export interface DocumentServer {
  /** The URL with a host name. The server counts as two receivers, because `byAddress` has an IP address instead. */
  byName: string
  byAddress: string
  /** Returns the number of requests so far. */
  asked(): number
  /** Returns the number of requests without a response. */
  hanging(): number
  /** Sets the response to all paths. Before the first call, no request is answered. */
  publish(document: unknown): void
  hang(): void
  /** Closes the connections of pending requests. */
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

/** Collects the responses to calls as they arrive. */
export function gather<Answer extends { status: number }>(calls: Promise<Answer>[]) {
  const answers: Answer[] = []
  for (const call of calls) call.then((answer) => answers.push(answer))
  return {
    answers,
    statuses: () => [...new Set(answers.map(({ status }) => status))].sort(),
    /**
     * Resolves when at most `most` calls are not answered yet. The time limit is long, because a thousand calls are
     * slow on a busy machine.
     */
    allBut: (most: number) => until(() => answers.length >= calls.length - most, 120_000),
    all: () => Promise.all(calls),
  }
}
