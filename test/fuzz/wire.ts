/** Low-level HTTP: sends what `fetch` would reject, on connections that are reused while possible. */
import { connect, type Socket } from 'node:net'

export interface Heard {
  kind: 'answer' | 'closed' | 'silence'
  status: number
  headers: Map<string, string>
  /** The values of `Set-Cookie`. */
  cookies: string[]
  body: string
}

export interface Wire {
  /** @param alone the connection is not reused; our side of it is closed */
  say(bytes: Buffer, how: { withoutBody: boolean; alone: boolean }): Promise<Heard>
  close(): void
}

/** @param patience milliseconds after which the result is `silence` */
export function openWire(port: number, patience: number): Wire {
  let socket: Socket | undefined

  return {
    async say(bytes, manner) {
      const isOld = !manner.alone && socket?.writable === true && socket.readable
      if (!isOld) socket = renew(socket)
      const heard = await converse(socket!, bytes, { ...manner, patience })
      // Retry, as every client does: a kept-alive connection may have just been closed.
      if (heard.kind !== 'closed' || !isOld) return heard
      socket = renew(socket)
      return converse(socket, bytes, { ...manner, patience })
    },
    close: () => void socket?.destroy(),
  }

  function renew(old: Socket | undefined): Socket {
    old?.destroy()
    return connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  }
}

interface ReceiverPace {
  withoutBody: boolean
  alone: boolean
  patience: number
}

function converse(socket: Socket, bytes: Buffer, { withoutBody, alone, patience }: ReceiverPace): Promise<Heard> {
  return new Promise((resolve) => {
    let text = ''
    const timer = setTimeout(() => end(nothing('silence'), false), patience)

    function end(heard: Heard, keep: boolean): void {
      clearTimeout(timer)
      clearTimeout(hangUp)
      socket.removeAllListeners()
      socket.on('error', () => {})
      if (!keep) socket.destroy()
      resolve(heard)
    }

    function look(isOver: boolean): void {
      const read = readAnswer(text, withoutBody, isOver)
      if (read === undefined) {
        if (isOver) end(nothing('closed'), false)
        return
      }
      const { heard, length, endless } = read
      const keep = !alone && !endless && !isOver && length === text.length
      end(heard, keep && heard.headers.get('connection')?.toLowerCase() !== 'close')
    }

    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      look(false)
    })
    socket.once('end', () => look(true))
    socket.once('close', () => look(true))
    socket.on('error', () => look(true))
    socket.write(bytes)
    // When our side is closed, a server that waits for more data fails the request. The delay gives other responses
    // time to arrive: a server may discard pending responses when the client closes.
    const hangUp = alone ? setTimeout(() => socket.end(), patience / 20) : undefined
  })
}

function nothing(kind: 'closed' | 'silence'): Heard {
  return { kind, status: 0, headers: new Map(), cookies: [], body: '' }
}

interface Read {
  heard: Heard
  /** The number of bytes that were read. */
  length: number
  endless: boolean
}

/** Returns the first complete response in `text`, or undefined if it is incomplete. */
function readAnswer(text: string, withoutBody: boolean, isOver: boolean): Read | undefined {
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd === -1) return undefined
  const [first = '', ...lines] = text.slice(0, headEnd).split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(first)?.[1] ?? 0)
  const start = headEnd + 4
  if (status >= 100 && status < 200) {
    const next = readAnswer(text.slice(start), withoutBody, isOver)
    return next && { ...next, length: next.length + start }
  }
  const pairs = lines.map((line): [string, string] => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
  })
  const headers = new Map(pairs)
  const cookies = pairs.flatMap(([name, value]) => (name === 'set-cookie' ? [value] : []))
  const whole = (body: string, length: number, endless = false): Read => ({
    heard: { kind: 'answer', status, headers, cookies, body: Buffer.from(body, 'latin1').toString('utf8') },
    length,
    endless,
  })
  if (withoutBody || status === 204 || status === 304) return whole('', start)
  if (headers.get('content-type')?.startsWith('text/event-stream')) return whole('', start, true)
  const announced = headers.get('content-length')
  if (announced !== undefined) {
    const end = start + Number(announced)
    return text.length >= end || isOver ? whole(text.slice(start, end), end) : undefined
  }
  if (headers.get('transfer-encoding') === 'chunked') return readChunks(text, start, whole)
  return isOver ? whole(text.slice(start), text.length) : undefined
}

function readChunks(text: string, start: number, whole: (body: string, length: number) => Read): Read | undefined {
  let at = start
  let body = ''
  for (;;) {
    const lineEnd = text.indexOf('\r\n', at)
    if (lineEnd === -1) return undefined
    const size = Number.parseInt(text.slice(at, lineEnd), 16)
    const from = lineEnd + 2
    if (text.length < from + size + 2) return undefined
    body += text.slice(from, from + size)
    at = from + size + 2
    if (size === 0) return whole(body, at)
  }
}
