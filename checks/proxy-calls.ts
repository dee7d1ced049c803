/** Calls a proxy over TLS. Each call uses a new connection. */
import { spawn } from 'node:child_process'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { request } from 'node:https'
import type { Certified } from '../test/support/certificates.ts'

/** A response. */
export interface Called {
  status: number
  retryAfter: string | undefined
  body: Record<string, unknown>
}

export interface CallOptions {
  form: Record<string, string>
  headers?: Record<string, string>
  certified?: Certified | undefined
  /** If this signal is aborted, the connection is closed. */
  signal?: AbortSignal | undefined
}

/** POSTs a form. Rejects if the connection is closed before the response. */
export function call(url: string, { form, headers, certified, signal }: CallOptions): Promise<Called> {
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST',
      agent: false as const,
      timeout: 30_000,
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      ...(certified && { cert: certified.cert, key: certified.key }),
      ...(signal && { signal }),
    }
    const sent = request(url, options, (answer) => {
      readAll(answer).then(
        (text) => resolve({ status: answer.statusCode!, retryAfter: answer.headers['retry-after'], body: parse(text) }),
        reject,
      )
    })
    sent.on('timeout', () => sent.destroy(new Error('no answer within thirty seconds'))).on('error', reject)
    sent.end(String(new URLSearchParams(form)))
  })
}

async function readAll(answer: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of answer) text += chunk
  return text
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return {}
  }
}

/** A stream of events that a page receives. */
export interface LiveStream {
  isOpen(): boolean
  /** Returns the number of events that have arrived. */
  events(): number
  close(): void
}

/** Opens an event stream (`text/event-stream`) with the cookies of a browser. */
export function listenTo(url: string, cookies: Map<string, string>): LiveStream {
  let isOpen = false
  let text = ''
  const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
  const sent: ClientRequest = request(
    url,
    { agent: false, headers: { accept: 'text/event-stream', cookie } },
    (answer) => {
      answer.on('data', (chunk) => {
        isOpen = answer.statusCode === 200
        text += chunk
      })
      answer.on('error', () => {}).on('close', () => (isOpen = false))
    },
  )
  sent.on('error', () => (isOpen = false)).end()
  return {
    isOpen: () => isOpen,
    events: () => text.match(/^event:/gm)?.length ?? 0,
    close: () => sent.destroy(),
  }
}

/**
 * Resolves to the names of authorities that the handshake contains, as `openssl s_client` prints them. Clients use
 * these names to choose their certificate.
 */
export async function callerNamesSent(url: string, ca: string): Promise<string> {
  const { host } = new URL(url)
  const child = spawn('openssl', ['s_client', '-connect', host, '-servername', 'localhost', '-CAfile', ca], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  child.stdin.end()
  let printed = ''
  for await (const chunk of child.stdout) printed += chunk
  if (printed.includes('No client certificate CA names sent')) return 'none'
  return /Acceptable client certificate CA names\n([^\n]*)/.exec(printed)?.[1] ?? 'unknown'
}
