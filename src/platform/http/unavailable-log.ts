/** Logs calls that cannot be answered, for instance while the database is away: not one line for each of them. */
import { type Clock, steadyTime, systemClock } from '../clock.ts'
import type { Log } from '../log.ts'

/** Milliseconds between two lines about the same cause. */
const intervalMs = 10_000
/** Upper limit for the causes that are counted separately. All others are counted together. */
const mostCauses = 20

/** Logs one call that cannot be answered. */
export type LogUnavailable = (call: string, error: Error) => void

/**
 * Returns a function that logs the first call with each cause, and then the number of calls in each interval. The stack
 * of each error is logged at level debug only.
 */
export function createUnavailableLog(log: Log, clock: Clock = systemClock): LogUnavailable {
  const counts = new Map<string, number>()

  function startCounting(key: string, cause: string): void {
    counts.set(key, 0)
    const since = steadyTime(clock)
    clock.after(intervalMs, () => {
      const calls = counts.get(key) ?? 0
      counts.delete(key)
      if (calls === 0) return
      const seconds = Math.round((steadyTime(clock) - since) / 1000)
      log.error({ event: 'calls.unavailable', cause, calls, seconds }, 'further calls could not be answered')
      startCounting(key, cause)
    })
  }

  return (call, error) => {
    log.debug({ event: 'call.unavailable', call, error }, 'cannot be answered now')
    const cause = causeOf(error)
    const key = counts.has(cause) || counts.size < mostCauses ? cause : ''
    const before = counts.get(key)
    if (before !== undefined) return void counts.set(key, before + 1)
    startCounting(key, key === '' ? 'other causes' : cause)
    log.error({ event: 'calls.unavailable', call, cause }, 'a call could not be answered; further ones are counted')
  }
}

/** Returns the code and the message of the innermost error. */
function causeOf(error: Error): string {
  if (error.cause instanceof Error) return causeOf(error.cause)
  const { code } = error as { code?: unknown }
  return code === undefined ? error.message : `${String(code)}: ${error.message}`
}
