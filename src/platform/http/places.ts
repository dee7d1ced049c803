/**
 * Places that callers take and give back. The number of places is limited for each key and in all. If no place is free, the
 * caller waits in line.
 */

export interface PlaceLimits {
  /** Upper limit for the places of one key, for instance of a receiver. */
  each: number
  /** Upper limit for all places. */
  inAll?: number
}

interface Line {
  taken: number
  waiting: Set<() => void>
}

export class Places {
  readonly #each: number
  readonly #inAll: number
  readonly #lines = new Map<string, Line>()
  /** Lines with waiting callers, one line for each key. Free places are given to one line after the other. */
  readonly #blocked = new Set<Line>()
  #taken = 0

  constructor({ each, inAll = Number.POSITIVE_INFINITY }: PlaceLimits) {
    this.#each = each
    this.#inAll = inAll
  }

  /** The number of places that are taken now. */
  get taken(): number {
    return this.#taken
  }

  /**
   * Takes a place. Resolves to the function that gives the place back. Rejects with the signal's reason if the signal is
   * aborted before a place is free.
   */
  enter(key: string, signal: AbortSignal): Promise<() => void> {
    const line = this.#lines.get(key) ?? { taken: 0, waiting: new Set() }
    this.#lines.set(key, line)
    // The place is given back in a later turn of the event loop, so that it is not given to a caller that gives up in this
    // turn.
    const leave = () => void setImmediate(() => this.#leave(key, line))
    return new Promise((resolve, reject) => {
      const enter = () => {
        this.#take(line)
        resolve(leave)
      }
      if (line.waiting.size === 0 && this.#hasRoom(line)) return enter()
      const giveUp = () => {
        if (!line.waiting.delete(enter)) return
        this.#forgetIfIdle(key, line)
        reject(signal.reason)
      }
      if (signal.aborted) return reject(signal.reason)
      line.waiting.add(enter)
      this.#blocked.add(line)
      signal.addEventListener('abort', giveUp, { once: true })
    })
  }

  #hasRoom(line: Line): boolean {
    return line.taken < this.#each && this.#taken < this.#inAll
  }

  #take(line: Line): void {
    line.taken += 1
    this.#taken += 1
  }

  #leave(key: string, line: Line): void {
    line.taken -= 1
    this.#taken -= 1
    for (const next of this.#blocked) {
      if (!this.#hasRoom(next)) continue
      this.#blocked.delete(next)
      const [enter] = next.waiting
      if (enter === undefined) continue
      next.waiting.delete(enter)
      if (next.waiting.size > 0) this.#blocked.add(next)
      enter()
      break
    }
    this.#forgetIfIdle(key, line)
  }

  #forgetIfIdle(key: string, line: Line): void {
    if (line.waiting.size > 0) return
    this.#blocked.delete(line)
    if (line.taken === 0) this.#lines.delete(key)
  }
}
