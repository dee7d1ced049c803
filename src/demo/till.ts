/**
 * The demo's till: a client like any other. It asks, waits as its delivery mode says, gets tokens and checks them.
 * What it knows of the server it learns from the answers.
 */
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import type { Display, Order, ReceivedCallBack } from './order.ts'
import { createPurchase, type Purchase } from './purchase.ts'
import { createTillClient, type TillClientNeeds } from './till-client.ts'

export interface TillNeeds extends TillClientNeeds {
  issuer: string
  clock: Clock
  log: Log
}

export interface Till {
  number(order: Order): number
  /** A notification endpoint was called; whether it is for us shows its bearer token. */
  hear(call: ReceivedCallBack): void
  display(): Display | undefined
  /** Hears whenever the display changes. Returns how to stop listening. */
  listen(listener: (display: Display) => void): () => void
  stop(): void
}

export function createTill({ issuer, clock, log, ...connection }: TillNeeds): Till {
  const till = createTillClient(connection)
  const listeners = new Set<(display: Display) => void>()
  let count = 0
  let current: Purchase | undefined

  function show(display: Display): void {
    for (const listener of listeners) listener(display)
  }

  return {
    number(order) {
      // Who asks anew no longer waits for the answer to before.
      current?.cancel()
      count += 1
      connection.wire.begin(count)
      current = createPurchase(order, count, { issuer, till, show, clock, log })
      return count
    },
    hear: (call) => current?.receive(call),
    display: () => current?.display(),
    listen(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    stop() {
      current?.cancel()
      current = undefined
    },
  }
}
