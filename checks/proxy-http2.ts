/** Calls a proxy over one HTTP/2 connection, as a browser does. */
import { once } from 'node:events'
import { type ClientHttp2Stream, connect, constants } from 'node:http2'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { LiveStream } from './proxy-calls.ts'

/** A connection of a browser. */
export interface Http2Connection {
  /** The protocol that the proxy has chosen, `h2` or `http/1.1`. If it is not `h2`, no call is possible. */
  protocol: string
  /** Resolves to the status of a page. */
  get(path: string, cookies: Map<string, string>): Promise<number>
  /** Sends a form. `reset` ends the call without waiting for its response. */
  post(path: string, form: Record<string, string>, headers: Record<string, string>): { reset(): void }
  listenTo(path: string, cookies: Map<string, string>): LiveStream
  close(): void
}

export async function openHttp2(url: string): Promise<Http2Connection> {
  const { hostname, port } = new URL(url)
  const offered = { host: hostname, port: Number(port), servername: hostname, ALPNProtocols: ['h2', 'http/1.1'] }
  const socket: TLSSocket = connectTls(offered)
  await once(socket, 'secureConnect')
  const protocol = socket.alpnProtocol || 'none'
  const session = protocol === 'h2' ? connect(url, { createConnection: () => socket }) : undefined
  session?.on('error', () => {})
  const request = (headers: Record<string, string>): ClientHttp2Stream => {
    const stream = session!.request(headers)
    stream.on('error', () => {})
    return stream
  }
  return {
    protocol,
    async get(path, cookies) {
      const stream = request({ ':path': path, accept: 'text/html', cookie: headerOf(cookies) })
      const signal = AbortSignal.timeout(10_000)
      const [answer] = (await once(stream, 'response', { signal })) as [{ ':status'?: number }]
      stream.resume()
      return Number(answer[':status'])
    },
    post(path, form, headers) {
      const type = { 'content-type': 'application/x-www-form-urlencoded' }
      const stream = request({ ':method': 'POST', ':path': path, ...type, ...headers })
      stream.end(String(new URLSearchParams(form)))
      return { reset: () => stream.close(constants.NGHTTP2_CANCEL) }
    },
    listenTo(path, cookies) {
      let isOpen = false
      let text = ''
      const stream = request({ ':path': path, accept: 'text/event-stream', cookie: headerOf(cookies) })
      stream.on('response', (answer) => (isOpen = answer[':status'] === 200))
      stream.on('data', (chunk) => (text += chunk))
      stream.on('close', () => (isOpen = false))
      return {
        isOpen: () => isOpen,
        events: () => text.match(/^event:/gm)?.length ?? 0,
        close: () => stream.close(constants.NGHTTP2_CANCEL),
      }
    },
    close: () => (session ? session.destroy() : socket.destroy()),
  }
}

const headerOf = (cookies: Map<string, string>) => [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
