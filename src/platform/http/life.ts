/** How a server ends without taking an answer from anybody: announced first, then quiet, then over. */
import { IncomingMessage, type ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { type Clock, systemClock } from '../clock.ts'

export interface Life {
  /** Whether the end was announced: whoever balances is to send calls elsewhere, and connections end with their answer. */
  readonly isEnding: boolean
  /** Nothing can be answered any more: what it needs is gone. */
  readonly isOver: boolean
  announceEnd(): void
  /** Resolves when no call is in work, those that come meanwhile included, or after so many milliseconds of real time. */
  quiet(atMostMs: number): Promise<void>
  over(): void
}

declare module 'fastify' {
  interface FastifyInstance {
    life: Life
  }
}

/** Follows the calls of `app`, which has its `life` from then on. */
export function followLife(app: FastifyInstance): void {
  const inWork = new Set<ServerResponse>()
  const waiting: (() => void)[] = []
  let stage: 'serving' | 'ending' | 'over' = 'serving'

  /** One function for all calls, told by `this` which of them is over. */
  function leave(this: ServerResponse): void {
    inWork.delete(this)
    if (inWork.size === 0) for (const resolve of waiting.splice(0)) resolve()
  }
  const life: Life = {
    get isEnding() {
      return stage !== 'serving'
    },
    get isOver() {
      return stage === 'over'
    },
    announceEnd() {
      if (stage !== 'serving') return
      stage = 'ending'
      for (const response of inWork) closeAfter(response)
    },
    quiet: (atMostMs) =>
      new Promise((resolve) => {
        if (inWork.size === 0) return resolve()
        systemClock.after(atMostMs, resolve)
        waiting.push(resolve)
      }),
    over() {
      stage = 'over'
    },
  }
  app.decorate('life', life)
  app.addHook('onRequest', ({ raw: request }, { raw: response }, done) => {
    if (life.isEnding) closeAfter(response)
    // What the server asks itself is part of a call that is followed.
    if (request instanceof IncomingMessage) {
      inWork.add(response)
      response.on('close', leave)
    }
    done()
  })
  app.addHook('preClose', (done) => {
    life.announceEnd()
    done()
  })
}

/** The connection ends with this answer, whoever writes it. */
function closeAfter(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader('connection', 'close')
}

export interface EndingNeeds {
  clock: Clock
  announce(): void
  end(): Promise<void>
}

/** Announces the end, lets `delay` seconds pass and ends; once. Without a delay, whoever calls again cuts it short. */
export function createEnding({ clock, announce, end }: EndingNeeds) {
  let ended: Promise<void> | undefined
  let cutShort = () => {}

  const wait = (seconds: number) =>
    new Promise<void>((resolve) => {
      const cancel = clock.after(seconds * 1000, resolve)
      cutShort = () => {
        cancel()
        resolve()
      }
    })

  return ({ delay = 0 }: { delay?: number } = {}): Promise<void> => {
    if (ended === undefined) {
      announce()
      ended = delay > 0 ? wait(delay).then(end) : end()
    } else if (delay === 0) cutShort()
    return ended
  }
}
