/**
 * Places that callers take and give back. The number of places is limited for each key and in all. If no place is free, the
 * caller waits in line.
 */

export interface PlaceLimits {
  /** Upper limit for the places of one key, for instance of a receiver. */
  each: number
  /** Upper limit for all places. */
  inAll?: number
  /** Some keys together get at most `most` of all places. `has` is asked again whenever a place is given. */
  part?: { most: number; has(key: string): boolean }
}

interface Line {
  key: string
  taken: number
  waiting: Set<() => void>
}

export class Places {
  readonly #each: number
  readonly #inAll: number
  readonly #part: NonNullable<PlaceLimits['part']>
  readonly #lines = new Map<string, Line>()
  /** Lines with waiting callers, one line for each key. Free places are given to one line after the other. */
  readonly #blocked = new Set<Line>()
  #taken = 0
  #takenByPart = 0

  constructor({ each, inAll = Number.POSITIVE_INFINITY, part }: PlaceLimits) {
    this.#each = each
    this.#inAll = inAll
    this.#part = part ?? { most: inAll, has: () => false }
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
    const line = this.#lines.get(key) ?? { key, taken: 0, waiting: new Set() }
    this.#lines.set(key, line)
    return new Promise((resolve, reject) => {
      const enter = () => {
        const isOfPart = this.#take(line)
        // The place is given back in a later turn of the event loop, so that it is not given to a caller that gives up in
        // this turn.
        resolve(() => void setImmediate(() => this.#leave(line, isOfPart)))
      }
      if (line.waiting.size === 0 && this.#hasRoom(line)) return enter()
      const giveUp = () => {
        if (!line.waiting.delete(enter)) return
        this.#forgetIfIdle(line)
        reject(signal.reason)
      }
      if (signal.aborted) return reject(signal.reason)
      line.waiting.add(enter)
      this.#blocked.add(line)
      signal.addEventListener('abort', giveUp, { once: true })
    })
  }

  #hasRoom(line: Line): boolean {
    if (line.taken >= this.#each || this.#taken >= this.#inAll) return false
    return this.#takenByPart < this.#part.most || !this.#part.has(line.key)
  }

  /** Returns whether the place counts as one of the part. */
  #take(line: Line): boolean {
    const isOfPart = this.#part.has(line.key)
    line.taken += 1
    this.#taken += 1
    if (isOfPart) this.#takenByPart += 1
    return isOfPart
  }

  #leave(line: Line, isOfPart: boolean): void {
    line.taken -= 1
    this.#taken -= 1
    if (isOfPart) this.#takenByPart -= 1
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
    this.#forgetIfIdle(line)
  }

  #forgetIfIdle(line: Line): void {
    if (line.waiting.size > 0) return
    this.#blocked.delete(line)
    if (line.taken === 0) this.#lines.delete(line.key)
  }
}
