/** Waits for a condition that sends no event. */
import { setTimeout as pause } from 'node:timers/promises'

/** Resolves as soon as `holds` returns true; rejects after `patience` milliseconds, so that a failed test ends. */
export async function until(holds: () => boolean | Promise<boolean>, patience = 10_000): Promise<void> {
  const deadline = performance.now() + patience
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${patience} ms in vain for ${holds}`)
    await pause(1)
  }
}
