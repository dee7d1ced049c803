/**
 * Resolves like `work`, but rejects with the reason of `signal` as soon as `signal` is aborted. The work itself goes on,
 * and its result is then ignored. Background work uses this function for every wait for a hook of the application, because
 * a hook that never responds would otherwise hold up the shutdown.
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

/** Returns a signal that is aborted after `limitMs` milliseconds of real time, or earlier together with `signal`. */
export function withTimeLimit(signal: AbortSignal, limitMs: number): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(limitMs)])
}
