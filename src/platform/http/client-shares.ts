/** Counts the calls in progress for each client. */
import { copyOf } from './outside-text.ts'

/** The number of calls in progress of one client. */
export interface Share {
  readonly client: string
  inWork: number
}

/**
 * Entries of clients without calls in progress are removed only when this many entries were added since the last
 * removal. They are not removed at once, because a polling client may begin and end thousands of calls a second.
 */
const usualIdle = 1_000

export class ClientShares {
  readonly #shares = new Map<string, Share>()
  /** The number of clients with a call in progress. */
  #busy = 0
  #tidyAt = usualIdle

  /** Returns the number of the client's calls in progress. */
  inWorkOf(client: string): number {
    return this.#shares.get(client)?.inWork ?? 0
  }

  /** Returns the number of clients with calls in progress. `client` is counted even if it has none. */
  clientsWith(client: string): number {
    return this.#busy + (this.inWorkOf(client) === 0 ? 1 : 0)
  }

  enter(client: string): Share {
    const share = this.#shares.get(client) ?? this.#add(client)
    if (share.inWork === 0) this.#busy += 1
    share.inWork += 1
    return share
  }

  leave(share: Share): void {
    share.inWork -= 1
    if (share.inWork === 0) this.#busy -= 1
  }

  #add(client: string): Share {
    if (this.#shares.size >= this.#tidyAt) this.#forgetIdle()
    const share = { client: copyOf(client), inWork: 0 }
    this.#shares.set(share.client, share)
    return share
  }

  #forgetIdle(): void {
    for (const [client, { inWork }] of this.#shares) if (inWork === 0) this.#shares.delete(client)
    this.#tidyAt = this.#shares.size + usualIdle
  }
}
