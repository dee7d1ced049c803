/** What failed lately, and until when it is not tried again: after each failure in a row twice as long, up to a limit. */
import type { Clock } from '../clock.ts'

export interface FailureOptions {
  /** The pause after the first failure. */
  firstPauseMs: number
  /** The pause never grows beyond this: what works again is noticed after it at the latest. */
  longestPauseMs: number
  /** Failures that are remembered; of more, the one remembered longest is forgotten. */
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

  /** @throws the error of the last try, while its pause lasts */
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
