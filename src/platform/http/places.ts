/**
 * Limits how many callers work at the same time, for each key and in all. Each caller takes a place and frees it
 * afterwards. If no place is free, the caller waits in line.
 */

export interface PlaceLimits {
  /** Upper limit for the places of one key, for instance of a receiver. */
  each: number
  /** Upper limit for all places. */
  inAll?: number
  /**
   * Each key belongs to a group, whose places are limited too. A key can change its group: `of` is called each time a
   * place is taken.
   */
  groups?: { of(key: string): string; most: Readonly<Record<string, number>> }
}

export interface Place {
  leave(): void
  /**
   * From now on, counts the place for another group. Returns false, and changes nothing, if that group has no free
   * place.
   */
  moveTo(group: string): boolean
}

interface Line {
  key: string
  taken: number
  waiting: Set<() => void>
}

export class Places {
  readonly #each: number
  readonly #inAll: number
  readonly #groups: NonNullable<PlaceLimits['groups']>
  readonly #lines = new Map<string, Line>()
  /** The lines in which callers wait. Each key has one line. The lines get free places in turn. */
  readonly #blocked = new Set<Line>()
  #taken = 0
  readonly #takenByGroup = new Map<string, number>()

  constructor({ each, inAll = Number.POSITIVE_INFINITY, groups }: PlaceLimits) {
    this.#each = each
    this.#inAll = inAll
    this.#groups = groups ?? { of: () => '', most: {} }
  }

  /** The number of places that are taken now. */
  get taken(): number {
    return this.#taken
  }

  /** Takes a place. Rejects with the signal's reason if the signal is aborted before a place is free. */
  enter(key: string, signal: AbortSignal): Promise<Place> {
    const line = this.#lines.get(key) ?? { key, taken: 0, waiting: new Set() }
    this.#lines.set(key, line)
    return new Promise((resolve, reject) => {
      const enter = () => resolve(this.#take(line))
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
    return this.#groupHasRoom(this.#groups.of(line.key))
  }

  #groupHasRoom(group: string): boolean {
    return (this.#takenByGroup.get(group) ?? 0) < (this.#groups.most[group] ?? Number.POSITIVE_INFINITY)
  }

  #take(line: Line): Place {
    let group = this.#groups.of(line.key)
    line.taken += 1
    this.#taken += 1
    this.#count(group, 1)
    return {
      // The place is freed only after this turn of the event loop, so that it does not go to a caller that stops
      // waiting in the same turn.
      leave: () =>
        void setImmediate(() => {
          line.taken -= 1
          this.#taken -= 1
          this.#count(group, -1)
          this.#callNext()
          this.#forgetIfIdle(line)
        }),
      moveTo: (other) => {
        if (other === group) return true
        if (!this.#groupHasRoom(other)) return false
        this.#count(group, -1)
        this.#count(other, 1)
        group = other
        this.#callNext()
        return true
      },
    }
  }

  #count(group: string, change: 1 | -1): void {
    this.#takenByGroup.set(group, (this.#takenByGroup.get(group) ?? 0) + change)
  }

  /** Gives a free place to the next waiting caller whose key and group have not reached their limits. */
  #callNext(): void {
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
  }

  #forgetIfIdle(line: Line): void {
    if (line.waiting.size > 0) return
    this.#blocked.delete(line)
    if (line.taken === 0) this.#lines.delete(line.key)
  }
}
