/** A client's notification endpoint. It records calls, and can send errors or no response. */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { inTime } from './until.ts'

export interface Heard {
  method: string
  path: string
  authorization: string | undefined
  contentType: string | undefined
  headers: IncomingHttpHeaders
  text: string
  body: Record<string, unknown>
}

/** The response of the endpoint. `hang`: no response. `drop`: the connection is closed without a response. */
export type ReceiverPace =
  | number
  | { status: number; headers?: Record<string, string>; body?: string }
  | 'hang'
  | 'drop'
  | 'endless body'

export interface NotificationEndpoint {
  url: string
  /** All calls so far. */
  heard: Heard[]
  /** Resolves as soon as `count` calls have arrived. Rejects after 20 seconds. */
  hears(count: number): Promise<Heard[]>
  /** Sets the responses to the next calls, one for each call. The last one is also used for all later calls. */
  behaves(...manners: ReceiverPace[]): void
  close(): Promise<void>
}

export interface NotificationEndpointOptions {
  /** Default: a free port. */
  port?: number
  /** If given, the endpoint uses TLS. */
  tls?: { key: string; cert: string }
}

export async function openNotificationEndpoint(
  t?: TestContext,
  { port = 0, tls }: NotificationEndpointOptions = {},
): Promise<NotificationEndpoint> {
  const heard: Heard[] = []
  let manners: ReceiverPace[] = [204]
  let waiting: { count: number; resolve: (heard: Heard[]) => void }[] = []

  const listener: RequestListener = async (request, response) => {
    heard.push(await read(request))
    waiting = waiting.filter(({ count, resolve }) => heard.length < count || resolve(heard))
    const manner = manners.length > 1 ? manners.shift()! : manners[0]!
    answer(response, manner)
  }
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener)
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))

  const endpoint: NotificationEndpoint = {
    url: `${tls === undefined ? 'http' : 'https'}://localhost:${(server.address() as AddressInfo).port}/notify`,
    heard,
    hears(count) {
      const arrived = new Promise<Heard[]>((resolve) => {
        if (heard.length >= count) resolve(heard)
        else waiting.push({ count, resolve })
      })
      return inTime(arrived, () => `${count} calls at a notification endpoint; ${heard.length} arrived`)
    },
    behaves(...next) {
      manners = next
    },
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
  t?.after(endpoint.close)
  return endpoint
}

async function read(request: IncomingMessage): Promise<Heard> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const text = Buffer.concat(chunks).toString('utf8')
  return {
    method: request.method!,
    path: request.url!,
    authorization: request.headers.authorization,
    contentType: request.headers['content-type'],
    headers: request.headers,
    text,
    body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
  }
}

function answer(response: ServerResponse, manner: ReceiverPace): void {
  if (manner === 'hang') return
  if (manner === 'drop') {
    response.destroy()
  } else if (manner === 'endless body') {
    response.writeHead(200)
    const more = () => response.write('x'.repeat(4096), (error) => error || setImmediate(more))
    more()
  } else {
    const { status, headers = {}, body } = typeof manner === 'number' ? { status: manner, body: undefined } : manner
    response.writeHead(status, headers).end(body)
  }
}
