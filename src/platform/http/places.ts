/** Places that are taken and given back, limited for each key and in all. A caller that finds none waits in a line. */

export interface PlaceLimits {
  /** Places for one key, for instance a receiver. */
  each: number
  /** Places in all. */
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
  /** Lines with waiting callers. A place that becomes free goes to each of them in turn. */
  readonly #blocked = new Set<Line>()
  #taken = 0

  constructor({ each, inAll = Number.POSITIVE_INFINITY }: PlaceLimits) {
    this.#each = each
    this.#inAll = inAll
  }

  /** Places that are taken now. */
  get taken(): number {
    return this.#taken
  }

  /** Resolves to the function that gives the place back; rejects with the signal's reason if that comes first. */
  enter(key: string, signal: AbortSignal): Promise<() => void> {
    const line = this.#lines.get(key) ?? { taken: 0, waiting: new Set() }
    this.#lines.set(key, line)
    // In a later turn: a caller that gives up at the same time must not be next.
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
