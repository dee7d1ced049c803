/** Server-sent events: an answer that stays open, on which a page hears of news. */
import type { FastifyReply } from 'fastify'
import type { Clock } from '../clock.ts'
import { OAuthError } from '../oauth-error.ts'
import { callerOf } from './connection.ts'

export interface EventStream {
  /** @param data one line */
  send(event: string, data: string): void
  /** Ends it from our side. The page comes again after a while by itself. */
  end(): void
}

export interface StreamOptions {
  clock: Clock
  /** Whether it may go on; asked at each heartbeat. */
  mayGoOn?(): boolean
  /** Called once, whichever side has ended it. */
  onEnd(): void
}

/** Milliseconds between two heartbeats: proxies cut connections on which nothing is sent. */
const heartbeatMs = 25_000

/** Takes the reply over and begins the stream. The connection may be gone already: then `onEnd` is called soon. */
export function openEventStream(reply: FastifyReply, { clock, mayGoOn, onEnd }: StreamOptions): EventStream {
  const caller = callerOf(reply)
  reply.hijack()
  const { raw } = reply
  raw.writeHead(200, {
    ...reply.server.commonHeaders,
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  // Where it ends because the server does, the page soon comes again, to another one.
  raw.write('retry: 1000\n\n')
  let isOver = false
  let cancelBeat = () => {}

  function end(): void {
    if (isOver) return
    isOver = true
    cancelBeat()
    raw.end()
    onEnd()
  }

  function beat(): void {
    if (mayGoOn?.() === false) end()
    if (isOver) return
    raw.write(': still open\n\n')
    cancelBeat = clock.after(heartbeatMs, beat)
  }

  caller.onClose(end)
  cancelBeat = clock.after(heartbeatMs, beat)
  if (caller.isClosed()) queueMicrotask(end)
  return {
    send(event, data) {
      if (!isOver) raw.write(`event: ${event}\ndata: ${data}\n\n`)
    },
    end,
  }
}

/** For a page beyond a limit. It shows the newest without a stream whenever it is opened. */
export function tooManyStreams(): OAuthError {
  return new OAuthError('access_denied', 'too many event streams are open already; close some pages', {
    status: 429,
    headers: { 'Retry-After': '30' },
  })
}
