import { type Clock, steadyTime, systemClock } from './clock.ts'

/**
 * Resolves like `work`, but rejects with the reason of `signal` as soon as `signal` is aborted. The work itself
 * continues, and its result is then ignored. Background work uses this function for every wait for a hook of the
 * application, so that a hook that never responds does not delay the shutdown.
 */
export function untilAborted<T>(work: T | PromiseLike<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = () => reject(signal.reason)
    if (signal.aborted) end()
    signal.addEventListener('abort', end, { once: true })
    Promise.resolve(work)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', end))
  })
}

/**
 * Resolves like `work`, but rejects with a `TimeoutError` when `limitMs` milliseconds are over. The work itself goes
 * on, and its result is then ignored. For work that takes no signal, use this function together with `untilAborted`.
 * `withTimeLimit` would combine two signals for each call, which costs the garbage collector more than the call of a
 * fast hook.
 *
 * @param clock starts the timer; by default real time passes
 */
export function untilTimeout<T>(
  work: T | PromiseLike<T>,
  limitMs: number,
  clock: Pick<Clock, 'after'> = systemClock,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new DOMException(`no answer within ${limitMs / 1000} seconds`, 'TimeoutError'))
    const cancel = clock.after(limitMs, late)
    Promise.resolve(work).then(resolve, reject).finally(cancel)
  })
}

/**
 * Returns a function that resolves like `work`, but rejects with a `TimeoutError` when `limitMs` milliseconds are over,
 * and with the reason of `signal` as soon as `signal` is aborted. Use it for thousands of calls: they all share one
 * timer and one listener, because a timer and a listener for each call take longer than a fast hook.
 */
export function createTimeLimit(limitMs: number, { clock, signal }: { clock: Clock; signal: AbortSignal }) {
  /**
   * The calls under way: the function that rejects each call, with the time at which the call reaches its limit. All
   * calls have the same limit, so the call that was added first reaches its limit first.
   */
  const underWay = new Map<(reason: unknown) => void, number>()
  let isWatched = false

  function watch(): void {
    const [first] = underWay.values()
    isWatched = first !== undefined
    if (first !== undefined) clock.after(Math.max(0, first - steadyTime(clock)), endLate)
  }

  function endLate(): void {
    const now = steadyTime(clock)
    for (const [reject, until] of underWay) {
      if (until > now) break
      underWay.delete(reject)
      reject(new DOMException(`no answer within ${limitMs / 1000} seconds`, 'TimeoutError'))
    }
    watch()
  }

  signal.addEventListener('abort', () => {
    for (const reject of underWay.keys()) reject(signal.reason)
    underWay.clear()
  })

  return <T>(work: T | PromiseLike<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      if (signal.aborted) reject(signal.reason)
      underWay.set(reject, steadyTime(clock) + limitMs)
      if (!isWatched) watch()
      const end = () => underWay.delete(reject)
      Promise.resolve(work).then(resolve, reject).then(end)
    })
}

/**
 * Returns a signal that is aborted after `limitMs` milliseconds of real time, or as soon as `signal` is aborted. Use
 * this function for calls over the network, because such calls accept a signal.
 */
export function withTimeLimit(signal: AbortSignal, limitMs: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(limitMs)])
}
