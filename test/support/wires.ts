/** A database whose connections can be slow and can be cut. */
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

export interface Wires {
  /** Replaces `openDatabase`. Once the connections are cut, databases opened before stay cut. */
  open: typeof openDatabase
  /** Returns the milliseconds by which each call is delayed. */
  slowness(): number
  /**
   * Cuts all open connections after this many further calls. The call at which it happens is not executed, or it is and
   * its response is lost. All later calls fail: for the database, the process has been killed.
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
