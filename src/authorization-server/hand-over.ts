/** Hands a request to oidc-provider, body and all, although we have read the body already. */
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { commonHeaders, rawBody } from '../http/answer.ts'
import type { Provider } from './authorization-server.ts'

export function createHandOver(provider: Provider) {
  const callback = provider.callback()
  const issuer = new URL(provider.issuer)

  return (request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    reply.hijack()
    const body = rawBody(request)
    // Fastify's hooks do not see what oidc-provider answers.
    for (const [name, value] of Object.entries(commonHeaders)) reply.raw.setHeader(name, value)
    if (request.method === 'POST') reply.raw.setHeader('Cache-Control', 'no-store')
    callback(replay(request.raw, body, issuer), reply.raw)
    return reply
  }
}

/** The request again, with a body that can still be read, and addressed to the issuer. */
function replay(raw: IncomingMessage, body: Buffer, issuer: URL): IncomingMessage {
  const headers = {
    ...raw.headers,
    host: issuer.host,
    'x-forwarded-proto': issuer.protocol.slice(0, -1),
    'x-forwarded-host': issuer.host,
  }
  const stream = Readable.from(body.length > 0 ? [body] : [])
  return Object.assign(stream, {
    headers,
    rawHeaders: raw.rawHeaders,
    method: raw.method,
    url: raw.url,
    socket: raw.socket,
    connection: raw.socket,
    httpVersion: raw.httpVersion,
    httpVersionMajor: raw.httpVersionMajor,
    httpVersionMinor: raw.httpVersionMinor,
    complete: true,
    aborted: false,
    trailers: {},
  }) as unknown as IncomingMessage
}
