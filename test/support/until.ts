/** Waits that end: for a condition that sends no event, and for a signal that may never come. */
import { setTimeout as pause } from 'node:timers/promises'

/** Resolves as soon as `holds` returns true; rejects after `patience` milliseconds, so that a failed test ends. */
export async function until(holds: () => boolean | Promise<boolean>, patience = 10_000): Promise<void> {
  const deadline = performance.now() + patience
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${patience} ms in vain for ${holds}`)
    await pause(1)
  }
}

/**
 * Resolves like `signal`; rejects after `patience` milliseconds, so that a test whose signal never comes fails and says
 * what it has waited for.
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
