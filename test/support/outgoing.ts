/** Creates guarded callers (`outgoing.ts`), and servers that they call. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import {
  CallFailed,
  type CallFailure,
  createGuardedCaller,
  type GuardedCallerOptions,
} from '../../src/platform/http/outgoing.ts'

export const soon = 150
export const longEnough = 5_000

export function caller(t: TestContext, options: Partial<GuardedCallerOptions> = {}) {
  const made = createGuardedCaller({
    timeout: longEnough,
    maxBytes: 1000,
    allowPrivateNetworks: true,
    allowHttp: true,
    ...options,
  })
  t.after(() => made.close())
  return made
}

export const failsWith = (word: CallFailure) => (error: unknown) => {
  assert.ok(error instanceof CallFailed, String(error))
  assert.equal(error.word, word)
  return true
}

export const loopback = { address: '127.0.0.1', family: 4 }

export const essence = (answer: { status: number; body: string }) => [answer.status, answer.body]

export const pour: RequestListener = (_request, response) => {
  const more = () => {
    while (!response.destroyed && response.write('x'.repeat(10_000)));
  }
  response.on('drain', more)
  more()
}

export async function httpServer(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  const port = await listen(t, server)
  return `http://127.0.0.1:${port}`
}

export async function tcpServer(t: TestContext, listener: (socket: Socket) => void): Promise<number> {
  return listen(
    t,
    createTcpServer((socket) => {
      socket.on('error', () => {}).resume()
      listener(socket)
    }),
  )
}

export async function listen(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as AddressInfo).port
}
