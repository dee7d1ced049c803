/** Opens a test server over real TLS, and callers with client certificates. */
import type { TestContext } from 'node:test'
import { type ConnectionOptions, connect } from 'node:tls'
import { Agent, request } from 'undici'
import { type Certified, certify, certifyServer } from './certificates.ts'
import { freePort } from './ports.ts'
import { type Answer, openStage, type Stage, type StageOptions } from './stage.ts'

export interface TlsStage extends Stage {
  /** The authority that issued the certificate of the server and the certificates of trusted clients. */
  authority: Certified
  /**
   * Returns a caller with this client certificate, or without one. @param mostConnections by default, as many as needed
   */
  as(certified?: Certified, mostConnections?: number): Caller
  /** Makes a TLS handshake with these options. Resolves to the version and the cipher suite, or to the error. */
  handshake(options: ConnectionOptions): Promise<string>
}

export interface Caller {
  agent: Agent
  post(path: string, form: Record<string, string>, headers?: Record<string, string>): Promise<Answer>
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  send(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    url: string,
    body?: string,
    headers?: Record<string, string>,
  ): Promise<Answer>
}

export async function openTlsStage(t: TestContext, options: StageOptions = {}): Promise<TlsStage> {
  const { authority, server } = await certifyServer()
  const port = options.port ?? (await freePort())
  const stage = await openStage(t, {
    ...options,
    port,
    config: {
      issuer: `https://localhost:${port}`,
      ...options.config,
      tls: { key: server.key, cert: server.cert, clientCa: authority.cert, ...options.config?.tls },
    },
  })
  stage.url = `https://localhost:${port}`
  const agents: Agent[] = []
  t.after(() => Promise.all(agents.map((agent) => agent.destroy())))
  const callers = new Map<Certified | undefined, Caller>()
  return Object.assign(stage, {
    authority,
    as(certified?: Certified, mostConnections?: number): Caller {
      const known = callers.get(certified)
      if (known !== undefined) return known
      const agent = new Agent({
        ...(mostConnections !== undefined && { connections: mostConnections }),
        connect: { ca: authority.cert, ...(certified && { cert: certified.cert, key: certified.key }) },
      })
      agents.push(agent)
      const caller = callerThrough(agent, stage.url)
      callers.set(certified, caller)
      return caller
    },
    handshake: (more: ConnectionOptions) => handshake({ port, ca: authority.cert, ...more }),
  })
}

export { certify }

function handshake(options: ConnectionOptions): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', servername: 'localhost', ...options }, () => {
      resolve(`${socket.getProtocol()} ${socket.getCipher().standardName}`)
      socket.destroy()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(`refused: ${error.code}`))
  })
}

function callerThrough(agent: Agent, base: string): Caller {
  const send: Caller['send'] = async (method, url, body, headers = {}) => {
    const answer = await request(new URL(url, base), {
      method,
      headers,
      dispatcher: agent,
      ...(body !== undefined && { body }),
    })
    const text = await answer.body.text()
    const pairs = Object.entries(answer.headers).flatMap(([name, value]) =>
      [value ?? []].flat().map((each): [string, string] => [name, each]),
    )
    return { status: answer.statusCode, headers: new Headers(pairs), text, body: parse(text) }
  }
  return {
    agent,
    send,
    get: (path, headers) => send('GET', path, undefined, headers),
    post: (path, form, headers = {}) =>
      send('POST', path, String(new URLSearchParams(form)), {
        'content-type': 'application/x-www-form-urlencoded',
        ...headers,
      }),
  }
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return {}
  }
}
