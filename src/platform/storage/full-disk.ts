/**
 * On a full disk, reads and perhaps small changes still succeed, but most requests of clients fail. After a step has
 * failed because the disk is full, the database counts as not writable until a step succeeds. The load balancer sends
 * no requests to a node that is not writable, so no request can end this state. Therefore `writable` itself tries to
 * write from time to time.
 */
import { randomBytes } from 'node:crypto'
import { type Clock, steadyTime } from '../clock.ts'
import type { Database, Statement } from './database.ts'

/** Milliseconds between two attempts to write. The first attempt is made this long after the step that failed. */
const triesEveryMs = 1_000

const SQLITE_FULL = 13

/** Returns whether a database error was caused by a full disk. */
export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  return code === '53100' || (code === 'ERR_SQLITE_ERROR' && (Number(errcode) & 0xff) === SQLITE_FULL)
}

/** Returns the database, changed so that `writable` resolves to false while the disk is full. */
export function watchingForFullDisk(database: Database, clock: Clock): Database {
  /** The earliest time of the next attempt to write, in steady time; undefined if the disk is not full. */
  let nextTryAt: number | undefined

  function succeeded(rows: unknown[]): void {
    // A step that returns no rows has changed nothing. Such a step also succeeds on a full disk.
    if (rows.length > 0) nextTryAt = undefined
  }

  function failed(error: unknown): void {
    if (isDiskFull(error)) nextTryAt ??= steadyTime(clock) + triesEveryMs
  }

  function step<Row>(...arguments_: Parameters<typeof database.step<Row>>): Promise<Row[]> {
    const rows = database.step<Row>(...arguments_)
    rows.then(succeeded, failed)
    return rows
  }

  /** Resolves to whether the disk is still full. */
  async function isStillFull(): Promise<boolean> {
    try {
      await tryWriting({ step })
      return false
    } catch (error) {
      if (isDiskFull(error)) return true
      throw error
    }
  }

  async function isFull(): Promise<boolean> {
    if (nextTryAt === undefined) return false
    if (steadyTime(clock) < nextTryAt) return true
    nextTryAt = steadyTime(clock) + triesEveryMs
    return isStillFull()
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
    read: database.read,
    step,
    writable: async () => !(await isFull()) && database.writable(),
    listen: database.listen,
    inLockOrder: database.inLockOrder,
    exclusively: database.exclusively,
    close: database.close,
  }
}

/**
 * Inserts a row and deletes it, in one transaction. Rejects if the database accepts no changes, for instance because the
 * disk is full or because it is a standby.
 */
export async function tryWriting({ step }: Pick<Database, 'step'>): Promise<void> {
  const { first, also } = trial()
  await step(first, { also })
}

/**
 * Returns a step that inserts a row and deletes it. The row is longer than a page of SQLite or Postgres and cannot be
 * compressed. So the row needs new space; a small row might fit into a page that is partly free.
 */
function trial(): { first: Statement; also: Statement[] } {
  const values = [randomBytes(16).toString('base64url')]
  const text = randomBytes(12_288).toString('base64url')
  return {
    first: {
      sql: `insert into oidc_models (model, id_hash, sealed) values ('Trial', $1, $2) returning id_hash`,
      values: [...values, text],
    },
    also: [{ sql: `delete from oidc_models where model = 'Trial' and id_hash = $1`, values }],
  }
}
