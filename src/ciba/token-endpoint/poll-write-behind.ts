/**
 * Counts polls in memory and writes them to the table later. The growth of an interval is written within a second; the
 * time of a last poll is written when the process shuts down.
 */
import type { Clock } from '../../platform/clock.ts'
import type { Log } from '../../platform/log.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { KeptPoll } from '../authentication-request/request-poll-store.ts'
import type { RememberedRequest } from './remembered-requests.ts'

export interface WriteBehindNeeds {
  requests: Pick<RequestStore, 'keepPolls'>
  clock: Clock
  log: Log
}

/** A longer polling interval, after `slow_down`, is saved in the database within this many milliseconds. */
const writtenWithinMs = 1_000
/** Maximum number of rows in one statement. */
const atOnce = 500
/** Seconds by which `slow_down` lengthens the interval (CIBA Core §11). */
const growthSeconds = 5

export type PollWriteBehind = ReturnType<typeof createPollWriteBehind>

export function createPollWriteBehind({ requests, clock, log }: WriteBehindNeeds) {
  const grown = new Set<RememberedRequest>()
  let cancelFlush: (() => void) | undefined
  let flushing: Promise<void> | undefined

  function flushSoon(): void {
    cancelFlush ??= clock.after(writtenWithinMs, () => void flush())
  }

  function stopWaiting(): void {
    cancelFlush?.()
    cancelFlush = undefined
  }

  function flush(): Promise<void> {
    stopWaiting()
    flushing = (flushing ?? Promise.resolve()).then(() => write([...grown]))
    return flushing
  }

  async function write(unwritten: RememberedRequest[]): Promise<void> {
    for (let from = 0; from < unwritten.length; from += atOnce) await writeSome(unwritten.slice(from, from + atOnce))
  }

  async function writeSome(unwritten: RememberedRequest[]): Promise<void> {
    const polls = unwritten.map((known): KeptPoll => {
      grown.delete(known)
      known.onItsWay = known.growth
      known.growth = 0
      return { authReqIdHash: known.key, lastPolledAt: known.lastPolledAt, growth: known.onItsWay }
    })
    try {
      const intervals = await requests.keepPolls(polls)
      for (const [index, known] of unwritten.entries()) {
        known.onItsWay = 0
        known.writtenAt = Math.max(known.writtenAt, polls[index]!.lastPolledAt)
        known.interval = Math.max(known.interval, intervals.get(known.key) ?? 0)
      }
    } catch (error) {
      for (const known of unwritten) {
        known.growth += known.onItsWay
        known.onItsWay = 0
        if (known.growth > 0) grown.add(known)
      }
      flushSoon()
      log.warn(
        { event: 'polls.not_written', error },
        'the poll times of clients could not be stored; it will be tried again',
      )
    }
  }

  return {
    /**
     * Counts a poll. The first poll of a request is never too early. If two polls arrive at the same time, the second is
     * too early.
     * @returns whether the poll came too early
     */
    account(known: RememberedRequest, arrivedAt: number): boolean {
      const interval = known.interval + known.growth + known.onItsWay
      const isEarly = known.lastPolledAt > 0 && arrivedAt < known.lastPolledAt + interval * 1000
      known.lastPolledAt = Math.max(known.lastPolledAt, arrivedAt)
      if (isEarly) {
        known.growth += growthSeconds
        grown.add(known)
        flushSoon()
      }
      return isEarly
    },
    forget: (known: RememberedRequest): void => void grown.delete(known),
    /** Writes the growth of the intervals. */
    flush,
    /** Writes everything, including the time of each last poll. Nothing is written afterwards. */
    async close(all: () => Iterable<RememberedRequest>): Promise<void> {
      await flush()
      stopWaiting()
      await write([...all()].filter((known) => known.growth > 0 || known.lastPolledAt > known.writtenAt))
      stopWaiting()
    },
  }
}
