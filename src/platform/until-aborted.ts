import { type Clock, systemClock } from './clock.ts'

/**
 * Resolves like `work`, but rejects with the reason of `signal` as soon as `signal` is aborted. The work itself
 * continues, and its result is then ignored. Background work uses this function for every wait for a hook of the
 * application, because a hook that never responds would otherwise delay the shutdown.
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
 * Resolves like `work`, but rejects with a `TimeoutError` when `limitMs` milliseconds are over. The work itself goes on,
 * and its result is then ignored. For work that takes no signal, use this function together with `untilAborted` instead of
 * a signal with a time limit: each combined signal costs the garbage collector more than the call of a fast hook.
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
 * Returns a signal that is aborted after `limitMs` milliseconds of real time, or earlier together with `signal`. For calls
 * over the network, which take a signal.
 */
export function withTimeLimit(signal: AbortSignal, limitMs: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(limitMs)])
}
