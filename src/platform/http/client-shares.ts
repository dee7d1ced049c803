/** Counts the calls in work for each client. */

/** A client's calls in work. */
export interface Share {
  readonly client: string
  inWork: number
}

/** Clients without a call in work whose entry is kept: a polling client begins and ends thousands a second. */
const usualIdle = 1_000

export class ClientShares {
  readonly #shares = new Map<string, Share>()
  /** Clients with a call in work. */
  #busy = 0
  #tidyAt = usualIdle

  /** Returns the client's calls in work. */
  inWorkOf(client: string): number {
    return this.#shares.get(client)?.inWork ?? 0
  }

  /** Returns the number of clients with calls in work, this one included in any case. */
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
    const share = { client, inWork: 0 }
    this.#shares.set(client, share)
    return share
  }

  #forgetIdle(): void {
    for (const [client, { inWork }] of this.#shares) if (inWork === 0) this.#shares.delete(client)
    this.#tidyAt = this.#shares.size + usualIdle
  }
}
