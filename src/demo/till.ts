/**
 * The demo's till (a cash register) is an ordinary client. It sends an authentication request, waits as its delivery
 * mode requires, gets tokens and verifies them. It uses only responses and notifications of the server, and no internal
 * data of the server.
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
  /** Starts a purchase in place of the current one. Returns its number. */
  start(order: Order): number
  /** Processes a ping or push. Ignores a call if its bearer token does not belong to the current purchase. */
  hear(call: ReceivedCallBack): void
  display(): Display | undefined
  /** Calls `listener` whenever the display changes. Returns a function that removes `listener`. */
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
    start(order) {
      // A new purchase replaces the current one.
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
