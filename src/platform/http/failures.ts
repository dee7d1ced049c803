/** Remembers what failed, and for how long it is not tried again: each failure in a row doubles the pause. */
import type { Clock } from '../clock.ts'

export interface FailureOptions {
  /** The pause after the first failure. */
  firstPauseMs: number
  /** The longest pause: recovery is noticed after it at the latest. */
  longestPauseMs: number
  /** Failures that are remembered; beyond this, the oldest is dropped. */
  most: number
  clock: Clock
}

interface Failure {
  error: unknown
  pauseMs: number
  until: number
}

export class Failures {
  readonly #options: FailureOptions
  readonly #failures = new Map<string, Failure>()

  constructor(options: FailureOptions) {
    this.#options = options
  }

  /** @throws the error of the last attempt, while its pause lasts */
  throwIfPaused(key: string): void {
    const failure = this.#failures.get(key)
    if (failure !== undefined && this.#options.clock.now() < failure.until) throw failure.error
  }

  failed(key: string, error: unknown): void {
    const { firstPauseMs, longestPauseMs, most, clock } = this.#options
    const before = this.#failures.get(key)
    const pauseMs = before === undefined ? firstPauseMs : Math.min(before.pauseMs * 2, longestPauseMs)
    this.#failures.delete(key)
    if (this.#failures.size >= most) this.#failures.delete(this.#failures.keys().next().value!)
    this.#failures.set(key, { error, pauseMs, until: clock.now() + pauseMs })
  }

  worked(key: string): void {
    this.#failures.delete(key)
  }
}
