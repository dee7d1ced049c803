/**
 * Counters with upper bounds: one bound for all entries, and one bound for each key. An entry that would exceed a bound
 * is refused at once.
 */
import { Overloaded } from './unavailable.ts'

/** The bound of one key: at most `most` entries with this key may exist at the same time. */
export interface Bound {
  key: string
  most: number
}

/** Counters with the bound `inAll` for all entries, and with bounds for each key. */
export class Bounds {
  readonly #inAll: number
  readonly #counts = new Map<string, number>()
  #count = 0

  constructor(inAll: number) {
    this.#inAll = inAll
  }

  /** The number of all entries. */
  get count(): number {
    return this.#count
  }

  /**
   * Counts one entry under each of the keys. Returns the function that removes the entry.
   *
   * @throws {Overloaded} if the bound for all entries, or the bound of one of the keys, is reached
   */
  enter(bounds: readonly Bound[]): () => void {
    const isFull = ({ key, most }: Bound) => (this.#counts.get(key) ?? 0) >= most
    if (this.#count >= this.#inAll || bounds.some(isFull)) throw new Overloaded()
    this.#add(bounds, 1)
    return () => this.#add(bounds, -1)
  }

  #add(bounds: readonly Bound[], change: 1 | -1): void {
    this.#count += change
    for (const { key } of bounds) {
      const count = (this.#counts.get(key) ?? 0) + change
      if (count === 0) this.#counts.delete(key)
      else this.#counts.set(key, count)
    }
  }
}
