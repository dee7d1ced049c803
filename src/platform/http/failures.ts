/**
 * Remembers, by key, which operations have failed. A failed operation is not tried again during a pause; each further
 * failure doubles the pause.
 */
import { type Clock, steadyTime } from '../clock.ts'

export interface FailureOptions {
  /** The pause after the first failure. */
  firstPauseMs: number
  /** The maximum length of a pause, however often the operation has failed. */
  longestPauseMs: number
  /** Upper limit for the failures that are remembered. Beyond this limit, the oldest is dropped. */
  most: number
  clock: Clock
}

interface Failure {
  error: unknown
  pauseMs: number
  /** When the pause ends, in the steady time of this process. */
  until: number
}

export class Failures {
  readonly #options: FailureOptions
  readonly #failures = new Map<string, Failure>()

  constructor(options: FailureOptions) {
    this.#options = options
  }

  /**
   * Throws if a failed operation must not be tried again yet.
   *
   * @throws the error of the last attempt, if the pause after it has not ended
   */
  throwIfPaused(key: string): void {
    const failure = this.#failures.get(key)
    if (failure !== undefined && steadyTime(this.#options.clock) < failure.until) throw failure.error
  }

  /** Returns for how many milliseconds the operation must not be tried again; 0 if it may be tried now. */
  pauseLeft(key: string): number {
    const failure = this.#failures.get(key)
    return failure === undefined ? 0 : Math.max(0, failure.until - steadyTime(this.#options.clock))
  }

  failed(key: string, error: unknown): void {
    const { firstPauseMs, longestPauseMs, most, clock } = this.#options
    const before = this.#failures.get(key)
    const pauseMs = before === undefined ? firstPauseMs : Math.min(before.pauseMs * 2, longestPauseMs)
    this.#failures.delete(key)
    if (this.#failures.size >= most) this.#failures.delete(this.#failures.keys().next().value!)
    this.#failures.set(key, { error, pauseMs, until: steadyTime(clock) + pauseMs })
  }

  worked(key: string): void {
    this.#failures.delete(key)
  }
}
