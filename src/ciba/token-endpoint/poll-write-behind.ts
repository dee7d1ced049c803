/**
 * Counts polls in memory and writes them to the table later. A changed interval is written within a second. The time of
 * the last poll of each request is written when the process shuts down, at the latest.
 */
import type { Clock } from '../../platform/clock.ts'
import type { Log } from '../../platform/log.ts'
import { createRepeatedFailures } from '../../platform/repeated-failures.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import { countPoll, isTooEarly } from '../authentication-request/poll-interval.ts'
import type { KeptPoll, UnwrittenPolls } from '../authentication-request/request-poll-store.ts'
import { isChanged, type RememberedRequest } from './remembered-requests.ts'

export interface WriteBehindNeeds {
  requests: Pick<RequestStore, 'keepPolls'>
  /** The interval does not grow beyond this number of seconds. */
  longestInterval: number
  /** Converts a time of the monotonic clock of this process (`steadyTime`) to a time of the database's clock. */
  toDatabaseTime(steadyTime: number): number
  clock: Clock
  log: Log
}

/** A changed interval is written to the table within this many milliseconds. */
const writtenWithinMs = 1_000
/** Maximum number of rows in one statement. */
const atOnce = 500

export type PollWriteBehind = ReturnType<typeof createPollWriteBehind>

export function createPollWriteBehind(needs: WriteBehindNeeds) {
  const { requests, longestInterval, toDatabaseTime, clock } = needs
  const failures = failuresIn(needs.log)
  /** The requests whose interval has changed in memory, and is not in the table yet. */
  const changed = new Set<RememberedRequest>()
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
    flushing = (flushing ?? Promise.resolve()).then(() => write([...changed]))
    return flushing
  }

  async function write(unwritten: RememberedRequest[]): Promise<void> {
    for (let from = 0; from < unwritten.length; from += atOnce) await writeSome(unwritten.slice(from, from + atOnce))
  }

  /** Returns the time of the last poll, and the interval if its change is not in the table yet. */
  function unwrittenOf(known: RememberedRequest): UnwrittenPolls {
    const { lastPolledAt, interval, keptPolls } = known
    return {
      lastPolledAt: lastPolledAt === undefined ? 0 : toDatabaseTime(lastPolledAt),
      changed: isChanged(known) ? { interval, keptPolls } : undefined,
    }
  }

  async function writeSome(unwritten: RememberedRequest[]): Promise<void> {
    const written = unwritten.map((known) => {
      changed.delete(known)
      const { changes, lastPolledAt } = known
      const poll: KeptPoll = { authReqIdHash: known.authReqIdHash, ...unwrittenOf(known) }
      return { known, changes, lastPolledAt, poll }
    })
    const isWritten = await failures.attempt(async () => {
      await requests.keepPolls(written.map(({ poll }) => poll))
      return true
    })
    for (const { known, changes, lastPolledAt } of written) {
      if (isWritten) {
        known.writtenChanges = Math.max(known.writtenChanges, changes)
        known.writtenAt = lastPolledAt
      } else if (isChanged(known)) changed.add(known)
    }
    if (!isWritten) flushSoon()
  }

  return {
    /**
     * Counts a poll. The first poll of a request is never too early. Of two polls that arrive at the same time, the
     * second is too early.
     *
     * @param arrivedAt by the monotonic clock of this process (`steadyTime`)
     * @returns whether the poll came too early
     */
    account(known: RememberedRequest, arrivedAt: number): boolean {
      const { lastPolledAt, interval, keptPolls } = known
      known.lastPolledAt = arrivedAt
      if (lastPolledAt === undefined) return false
      const isEarly = isTooEarly(arrivedAt - lastPolledAt, interval)
      countPoll(known, isEarly, longestInterval)
      if (known.interval !== interval || known.keptPolls !== keptPolls) known.changes += 1
      if (known.interval !== interval) {
        changed.add(known)
        flushSoon()
      }
      return isEarly
    },
    unwrittenOf,
    forget: (known: RememberedRequest): void => void changed.delete(known),
    /** Writes the changed intervals. */
    flush,
    /** Writes the changed intervals and the time of the last poll of each request. Nothing is written afterwards. */
    async close(all: () => Iterable<RememberedRequest>): Promise<void> {
      await flush()
      stopWaiting()
      await write([...all()].filter((known) => isChanged(known) || known.lastPolledAt !== known.writtenAt))
      stopWaiting()
    },
  }
}

const failuresIn = (log: Log) =>
  createRepeatedFailures(log, { event: 'polls.not_written' }, 'the poll times of clients could not be stored', 'warn')
