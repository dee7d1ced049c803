/** How a server ends without taking an answer from anybody: announced first, then quiet, then over. */
import { IncomingMessage, type ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { type Clock, systemClock } from '../clock.ts'

export interface Life {
  /** Whether the end was announced: whoever balances is to send calls elsewhere, and connections end with their answer. */
  readonly isEnding: boolean
  /** Nothing can be answered any more: what it needs is gone. */
  readonly isShuttingDown: boolean
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
  const inWork = createUnorderedList<ServerResponse>()
  const waiting: (() => void)[] = []
  let stage: 'serving' | 'ending' | 'over' = 'serving'

  /** One function for all calls, told by `this` which of them is over. */
  function leave(this: ServerResponse): void {
    inWork.remove(this)
    ;(this as Followed)[heard]?.(this)
    if (inWork.members.length === 0) for (const resolve of waiting.splice(0)) resolve()
  }
  const life: Life = {
    get isEnding() {
      return stage !== 'serving'
    },
    get isShuttingDown() {
      return stage === 'over'
    },
    announceEnd() {
      if (stage !== 'serving') return
      stage = 'ending'
      for (const response of inWork.members) closeAfter(response)
    },
    quiet: (atMostMs) =>
      new Promise((resolve) => {
        if (inWork.members.length === 0) return resolve()
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

const heard = Symbol('heard')

type Followed = ServerResponse & { [heard]?: (response: ServerResponse) => void }

/** Calls `hear` once nobody waits for the answer any more: one function for each answer of an app that is followed. */
export function whenOver(response: ServerResponse, hear: (response: ServerResponse) => void): void {
  ;(response as Followed)[heard] = hear
}

const place = Symbol('place')

/**
 * What is in work, in no order. A `Set` that gains and loses thousands of members a second makes the garbage collector
 * keep the members of its former tables alive: it took a tenth of all that a poll costs.
 */
function createUnorderedList<T extends object>() {
  type Placed = T & { [place]?: number }
  const members: Placed[] = []
  return {
    members: members as readonly T[],
    add(member: Placed): void {
      member[place] = members.push(member) - 1
    },
    /** To be called once for each that was added. */
    remove(member: Placed): void {
      const last = members.pop()!
      if (last === member) return
      members[member[place]!] = last
      last[place] = member[place]!
    },
  }
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
