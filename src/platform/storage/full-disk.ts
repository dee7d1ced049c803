/**
 * A disk that is full: reads go on, and with luck a small change too, but most of what clients ask for fails. So the
 * database counts as not writable from the first step that failed so until one succeeds. A node that is out of rotation
 * gets no calls that could succeed; so who asks whether it is writable makes it try, now and then.
 */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { Database, Statement } from './database.ts'

/** Milliseconds from one try to the next, and from the step that failed to the first. */
const triesEveryMs = 1_000

const SQLITE_FULL = 13

export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  return code === '53100' || (code === 'ERR_SQLITE_ERROR' && (Number(errcode) & 0xff) === SQLITE_FULL)
}

/** The same database, which is not `writable` while its disk is full. */
export function watchingForFullDisk(database: Database, clock: Clock): Database {
  /** While the disk is full: when to try the next time. */
  let nextTryAt: number | undefined

  function succeeded(rows: unknown[]): void {
    // A step without rows has changed nothing: it would have succeeded on a full disk too.
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
 * A row that is gone again when the step is committed. It is longer than a page of either engine, and does not get shorter
 * by compression, so that it needs new room: a small one might find a place that is free in a page.
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
