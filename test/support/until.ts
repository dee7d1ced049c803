/** Waits with a time limit: for a condition that sends no event, and for a promise that may never resolve. */
import { setTimeout as pause } from 'node:timers/promises'

/**
 * Resolves as soon as `holds` returns true. Rejects after `patience` milliseconds, so that a failed test does not hang.
 */
export async function until(holds: () => boolean | Promise<boolean>, patience = 10_000): Promise<void> {
  const deadline = performance.now() + patience
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${patience} ms in vain for ${holds}`)
    await pause(1)
  }
}

/**
 * Resolves like `signal`. Rejects after `patience` milliseconds, with an error that says what the test has waited for.
 */
export async function inTime<Result>(
  signal: Promise<Result>,
  waitedFor: () => string,
  patience = 20_000,
): Promise<Result> {
  const tooLate = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    tooLate.reject(new Error(`waited ${patience} ms in vain for ${waitedFor()}`))
  }, patience)
  try {
    return await Promise.race([signal, tooLate.promise])
  } finally {
    clearTimeout(timer)
  }
}
