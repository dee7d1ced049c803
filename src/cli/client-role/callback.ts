/**
 * Receives the pings and pushes for a client, at an endpoint of the command itself or at the recording endpoint of a
 * development server.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { steadyTime, systemClock } from '../../platform/clock.ts'
import { sameSecret } from '../../platform/crypto.ts'
import { bearerOf } from '../../platform/http/authorization.ts'
import { isLoopback } from '../../platform/http/web-address.ts'
import { isPlain } from '../../platform/validation.ts'
import { Failure } from '../context/failure.ts'
import { call, Unreachable } from './web.ts'

/** The body of a ping or push: `auth_req_id`, and in a push also the tokens or the error. */
export type CallBackBody = Record<string, unknown> & { auth_req_id: string }

export interface CallBackEndpoint {
  /** The address of the endpoint, shown to the user of the command. */
  description: string
  /**
   * Waits for the notification about a request. Resolves to the notification, or to undefined if none arrives before
   * `until` (in monotonic milliseconds of this process, `steadyTime`).
   */
  hears(authReqId: string, until: number): Promise<CallBackBody | undefined>
  close(): void
}

/**
 * Opens the endpoint at which the command receives the notifications of a client.
 *
 * @param notificationToken the bearer token of the notifications; a call with another token is refused
 * @param endpoint the notification endpoint that the client has registered; undefined if it is not known
 * @param listenOn the port on which the command listens; needed if a tunnel leads from `endpoint` to this machine, or
 *   if `endpoint` is undefined
 */
export async function openCallBack(
  notificationToken: string,
  endpoint: string | undefined,
  issuer: string,
  listenOn: number | undefined,
): Promise<CallBackEndpoint> {
  if (endpoint !== undefined && isOfServer(endpoint, issuer)) return watchServer(endpoint, notificationToken)
  const url = endpoint === undefined ? undefined : new URL(endpoint)
  if (listenOn !== undefined) return listen({ port: listenOn, host: '127.0.0.1', path: undefined }, notificationToken)
  if (url === undefined) {
    throw new Failure('The notification endpoint of this client is not known. Name its port: --callback-port <number>.')
  }
  if (url.protocol !== 'http:' || !isLoopback(url.hostname)) {
    throw new Failure(
      `${endpoint}, the registered notification endpoint of this client, is not on this machine. If a tunnel leads from there to this machine, name the port at which the tunnel ends: --callback-port <number>.`,
    )
  }
  const host = url.hostname === 'localhost' ? '127.0.0.1' : url.hostname.replace(/[[\]]/g, '')
  return listen({ port: Number(url.port || 80), host, path: url.pathname + url.search }, notificationToken)
}

function isOfServer(endpoint: string, issuer: string): boolean {
  const { origin, pathname } = new URL(endpoint)
  return origin === new URL(issuer).origin && pathname.startsWith('/dev/callback/')
}

/** Milliseconds between two reads of the notifications that a development server has recorded. */
const look = 300

/**
 * A call that arrived at the notification endpoint. If the command itself has received the call, it has already checked
 * the token, and `authorization` is absent.
 */
interface RecordedCall {
  authorization?: string
  contentType?: string
  body?: unknown
}

/** Reads the notifications that a development server has recorded. */
function watchServer(endpoint: string, notificationToken: string): CallBackEndpoint {
  return {
    description: `${endpoint} (the server keeps the notifications that arrive there)`,
    async hears(authReqId, until) {
      for (;;) {
        const ours = (await callsAt(endpoint)).find(({ authorization }) => isBearer(authorization, notificationToken))
        if (ours) return checked(ours.body, ours.contentType, authReqId)
        if (steadyTime(systemClock) >= until) return undefined
        await wait(Math.min(look, Math.max(0, until - steadyTime(systemClock))))
      }
    },
    close: () => {},
  }
}

/**
 * Resolves to the calls that the development server has recorded. If the server does not respond, resolves to an empty
 * list, so that the command continues to wait: the server may be restarting, and authentication requests stay in its
 * database.
 */
async function callsAt(endpoint: string): Promise<RecordedCall[]> {
  try {
    const { body } = await call(endpoint, { headers: { accept: 'application/json' } })
    return Array.isArray(body.calls) ? (body.calls as RecordedCall[]) : []
  } catch (error) {
    if (error instanceof Unreachable) return []
    throw error
  }
}

interface Place {
  port: number
  host: string
  /** The path at which calls are accepted. If it is undefined, calls at any path are accepted. */
  path: string | undefined
}

async function listen(place: Place, notificationToken: string): Promise<CallBackEndpoint> {
  const received: RecordedCall[] = []
  let news = () => {}
  const server = createServer((request, response) => {
    receive(request, response, { path: place.path, notificationToken }).then((recorded) => {
      if (recorded === undefined) return
      received.push(recorded)
      news()
    })
  })
  await begin(server, place)

  return {
    description: `http://${place.host.includes(':') ? `[${place.host}]` : place.host}:${place.port}${place.path ?? '/'}`,
    async hears(authReqId, until) {
      for (;;) {
        const [ours] = received
        if (ours) return checked(ours.body, ours.contentType, authReqId)
        const left = until - steadyTime(systemClock)
        if (left <= 0) return undefined
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, left)
          news = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    },
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

function begin(server: Server, { port, host }: Place): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'EADDRINUSE' ? 'it is in use' : error.message
      reject(new Failure(`Cannot listen at port ${port} of this machine, where this client is notified: ${reason}.`))
    })
    server.listen(port, host, resolve)
  })
}

const mostBytes = 256 * 1024

/**
 * Answers a call to the notification endpoint. A POST to `path` with the notification token is answered with 204, and
 * the promise resolves to the call. For all other calls, the promise resolves to undefined. A call with another token
 * is answered with 401 (CIBA Core §10.2, §10.3.1), so that the provider does not count the notification as delivered.
 */
async function receive(
  request: IncomingMessage,
  response: ServerResponse,
  { path, notificationToken }: { path: string | undefined; notificationToken: string },
): Promise<RecordedCall | undefined> {
  const { authorization, 'content-type': contentType } = request.headers
  if (request.method !== 'POST' || (path !== undefined && request.url !== path)) {
    response.writeHead(404).end()
    return undefined
  }
  try {
    const body = parse(await readText(request))
    if (!isBearer(authorization, notificationToken)) {
      response.writeHead(401, { 'www-authenticate': 'Bearer' }).end()
      return undefined
    }
    response.writeHead(204).end()
    return { ...(contentType && { contentType }), body }
  } catch {
    response.writeHead(400).end()
    return undefined
  }
}

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > mostBytes) throw new Error('too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function isBearer(authorization: string | undefined, token: string): boolean {
  const sent = bearerOf(authorization)
  return sent !== undefined && sameSecret(sent, token)
}

function checked(body: unknown, contentType: string | undefined, authReqId: string): CallBackBody {
  if (!isPlain(body) || !contentType?.startsWith('application/json')) {
    throw new Failure('The provider sent a notification that is not a JSON object.')
  }
  if (body.auth_req_id !== authReqId) throw new Failure('The provider sent a notification for another auth_req_id.')
  return body as CallBackBody
}
