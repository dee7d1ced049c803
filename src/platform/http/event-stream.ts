/** Sends events to a page, in a response that stays open (server-sent events). */
import type { FastifyReply } from 'fastify'
import type { Clock } from '../clock.ts'
import { OAuthError } from '../oauth-error.ts'
import { callerOf } from './connection.ts'

export interface EventStream {
  /** Sends an event. @param data one line */
  send(event: string, data: string): void
  /** Ends the stream. The page reconnects by itself after a second. */
  end(): void
}

export interface StreamOptions {
  clock: Clock
  /** Returns whether the stream may stay open. Called at each heartbeat. */
  mayGoOn?(): boolean
  /** Called once when the server or the page has ended the stream. */
  onEnd(): void
}

/** Milliseconds between two heartbeats. A heartbeat is a comment line, sent because proxies close idle connections. */
const heartbeatMs = 25_000

/**
 * Begins the stream as the response of `reply`, without Fastify. If the connection is already closed, `onEnd` is called
 * soon after this function has returned.
 */
export function openEventStream(reply: FastifyReply, { clock, mayGoOn, onEnd }: StreamOptions): EventStream {
  const caller = callerOf(reply)
  reply.hijack()
  const { raw } = reply
  raw.writeHead(200, {
    ...reply.server.commonHeaders,
    'content-type': 'text/event-stream',
    // With `no-transform`, the middleware `compression` of Express does not hold events back until it has enough of them.
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no',
  })
  // After the stream has ended, for example because this server stops, the page reconnects in one second.
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
    if (isOver || raw.writableEnded) return
    raw.write(': still open\n\n')
    cancelBeat = clock.after(heartbeatMs, beat)
  }

  caller.onClose(end)
  cancelBeat = clock.after(heartbeatMs, beat)
  return {
    send(event, data) {
      if (!isOver && !raw.writableEnded) raw.write(`event: ${event}\ndata: ${data}\n\n`)
    },
    end,
  }
}

/**
 * Returns the error for a stream that would exceed a limit. A page without a stream still works, but shows only the
 * state at the time when the page was opened.
 */
export function tooManyStreams(): OAuthError {
  return new OAuthError('access_denied', 'too many event streams are open already; close some pages', {
    status: 429,
    headers: { 'Retry-After': '30' },
  })
}
