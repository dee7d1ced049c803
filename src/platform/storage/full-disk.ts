/**
 * On a full disk, reads and perhaps small changes still succeed, but most requests of clients fail. The database counts as
 * not writable from the first step that fails for this reason until a step succeeds. A node that is out of rotation gets no
 * requests that could succeed, so `writable` itself tries a write from time to time.
 */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { Database, Statement } from './database.ts'

/** Milliseconds between two attempts, and between the failed step and the first attempt. */
const triesEveryMs = 1_000

const SQLITE_FULL = 13

/** Whether a database error was caused by a full disk. */
export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  return code === '53100' || (code === 'ERR_SQLITE_ERROR' && (Number(errcode) & 0xff) === SQLITE_FULL)
}

/** Returns the same database, whose `writable` resolves to false while its disk is full. */
export function watchingForFullDisk(database: Database, clock: Clock): Database {
  /** When to attempt the next write; undefined unless the disk is full. */
  let nextTryAt: number | undefined

  function succeeded(rows: unknown[]): void {
    // A step without rows has changed nothing: it would also have succeeded on a full disk.
    if (rows.length > 0) nextTryAt = undefined
  }

  function failed(error: unknown): void {
    if (isDiskFull(error)) nextTryAt ??= clock.now() + triesEveryMs
  }

  function step<Row>(...arguments_: Parameters<typeof database.step<Row>>): Promise<Row[]> {
    const rows = database.step<Row>(...arguments_)
    rows.then(succeeded, failed)
    return rows
  }

  /** Resolves to whether the disk is still full. */
  async function tryWriting(): Promise<boolean> {
    const { first, also } = trial()
    try {
      await step(first, { also })
      return false
    } catch (error) {
      if (isDiskFull(error)) return true
      throw error
    }
  }

  async function isFull(): Promise<boolean> {
    if (nextTryAt === undefined) return false
    if (clock.now() < nextTryAt) return true
    nextTryAt = clock.now() + triesEveryMs
    return tryWriting()
  }

  return {
    engine: database.engine,
    get listening() {
      return database.listening
    },
    get epoch() {
      return database.epoch
    },
    read: database.read,
    step,
    writable: async () => !(await isFull()) && database.writable(),
    listen: database.listen,
    exclusively: database.exclusively,
    close: database.close,
  }
}

/**
 * Inserts a row and deletes it in the same step. The row is longer than a page of either engine and cannot be compressed, so
 * that it needs new space: a small row might fit into a page that is partly free.
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
