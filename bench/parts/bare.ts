/**
 * A server that reads the body and sends the usual response to a poll. Its rate is the upper limit for any HTTP server
 * on Node.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { playPart } from '../part.ts'

const constant = Buffer.from(
  JSON.stringify({ error: 'authorization_pending', error_description: 'the user has not decided yet' }),
)
const headers = {
  'content-type': 'application/json; charset=utf-8',
  'content-length': constant.length,
  'cache-control': 'no-store',
}

playPart(async () => {
  const server = createServer((request, response) => {
    request.resume().on('end', () => response.writeHead(400, headers).end(constant))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    answers: {},
    async close() {
      server.closeAllConnections()
      server.close()
    },
  }
})
