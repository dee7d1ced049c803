/** Databases whose calls can be delayed, and whose connections can be cut. */
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

export interface Wires {
  /** Replaces `openDatabase`. After `cut`, the databases that were already open stay unusable. */
  open: typeof openDatabase
  /** Returns the number of milliseconds by which each call is delayed. A test may replace this function. */
  slowness(): number
  /**
   * Cuts all open connections after this many further calls. With `call`, the next call is not executed. With `answer`,
   * it is executed, and its response is lost. All later calls fail, as if the process had been killed.
   */
  cut(calls?: number, what?: 'call' | 'answer'): void
  /** The number of calls so far. */
  calls: number
}

interface Wire {
  left: number
  losing: 'call' | 'answer'
}

export function createWires(slowness = () => 0): Wires {
  const opened = new Set<Wire>()

  const wires: Wires = {
    calls: 0,
    slowness,
    async open(url, surroundings) {
      const wire: Wire = { left: Number.POSITIVE_INFINITY, losing: 'call' }
      const database = attach(await openDatabase(url, surroundings), wire)
      opened.add(wire)
      return database
    },
    cut(calls = 0, what = 'call') {
      for (const wire of opened) Object.assign(wire, { left: calls, losing: what })
      opened.clear()
    },
  }

  function attach(database: Database, wire: Wire): Database {
    async function through<T>(call: () => Promise<T>): Promise<T> {
      wires.calls += 1
      await pause(wires.slowness())
      wire.left -= 1
      if (wire.left < 0 && (wire.left < -1 || wire.losing === 'call')) throw new Error('the wires are cut')
      const answer = await call()
      if (wire.left < 0) throw new Error('the wires are cut')
      return answer
    }
    return {
      engine: database.engine,
      get listening() {
        return database.listening
      },
      get epoch() {
        return database.epoch
      },
      get clockOffset() {
        return database.clockOffset
      },
      read: (sql, values) => through(() => database.read(sql, values)),
      step: (first, options) => through(() => database.step(first, options)),
      writable: () => through(() => database.writable()),
      listen: database.listen,
      inLockOrder: database.inLockOrder,
      exclusively: database.exclusively,
      close: database.close,
    }
  }

  return wires
}

function pause(milliseconds: number): Promise<void> | undefined {
  return milliseconds > 0 ? new Promise((resolve) => setTimeout(resolve, milliseconds)) : undefined
}
