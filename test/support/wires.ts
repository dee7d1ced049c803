/** A database at the end of long wires: its answers may be slow, and the wires can be cut. */
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

export interface Wires {
  /** In place of `openDatabase`. What is opened while the wires are whole stays cut once they were cut. */
  open: typeof openDatabase
  /** Milliseconds that each call takes longer. */
  slowness(): number
  /**
   * Cuts everything that is open now, after so many further calls. The call at which it happens is not carried out, or
   * it is and its answer is lost. All later ones fail: to the database it looks as if the process had been killed.
   */
  cut(calls?: number, what?: 'call' | 'answer'): void
  /** Calls begun so far. */
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
      read: (sql, values) => through(() => database.read(sql, values)),
      step: (first, options) => through(() => database.step(first, options)),
      writable: () => through(() => database.writable()),
      listen: database.listen,
      exclusively: database.exclusively,
      close: database.close,
    }
  }

  return wires
}

function pause(milliseconds: number): Promise<void> | undefined {
  return milliseconds > 0 ? new Promise((resolve) => setTimeout(resolve, milliseconds)) : undefined
}
