/** The HTTP client of the load generator: it sends prepared text over a raw socket, one request at a time. */
import { connect, type Socket } from 'node:net'
import { secretOf } from './cast.ts'

export interface Answer {
  status: number
  body: string
}

/** One connection. It sends one request at a time. */
export interface Line {
  send(text: string, answered: (answer: Answer | Error) => void): void
  close(): void
}

export function openLine(port: number): Promise<Line> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ port, host: '127.0.0.1', noDelay: true })
    let answered: ((answer: Answer | Error) => void) | undefined
    let text = ''

    function tell(answer: Answer | Error): void {
      const told = answered
      answered = undefined
      text = ''
      told?.(answer)
    }

    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => {
      text = text === '' ? chunk : text + chunk
      const answer = readAnswer(text)
      if (answer !== undefined) tell(answer)
    })
    socket.once('error', (error) => {
      reject(error)
      tell(error)
    })
    socket.once('close', () => tell(new Error('the server hung up')))
    socket.once('connect', () =>
      resolve({
        send(message, told) {
          answered = told
          socket.write(message, 'latin1')
        },
        close: () => socket.destroy(),
      }),
    )
  })
}

/** Parses a response. Returns undefined until the response is complete. All measured servers send `Content-Length`. */
function readAnswer(text: string): Answer | Error | undefined {
  const head = text.indexOf('\r\n\r\n')
  if (head < 0) return undefined
  const length = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1]
  if (length === undefined) return new Error(`an answer without a length: ${text.slice(0, head)}`)
  const body = head + 4
  if (text.length < body + Number(length)) return undefined
  return { status: Number(text.slice(9, 12)), body: text.slice(body) }
}

/**
 * @param basic the id of the client, if the client authenticates with its secret in `Authorization`
 * @param more additional headers
 */
export function post(path: string, form: string, basic?: string, more: Record<string, string> = {}): string {
  const authorization =
    basic === undefined
      ? ''
      : `Authorization: Basic ${Buffer.from(`${basic}:${secretOf(basic)}`).toString('base64')}\r\n`
  const headers = Object.entries({ 'content-type': 'application/x-www-form-urlencoded', ...more })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')
  return `POST ${path} HTTP/1.1\r\nHost: bench.example\r\nX-Forwarded-Proto: https\r\n${authorization}${headers}Content-Length: ${form.length}\r\n\r\n${form}`
}
