/** Repeats a query or a step that Postgres has rolled back, if it may succeed the next time. */
import type { StatementPool } from './postgres-pool.ts'

/** Serialization failure, deadlock, and the end of a transaction that was idle for too long. */
const retriable = new Set(['40001', '40P01', '25P03'])

const attempts = 3

/**
 * Resolves to the result of `work`, which is called up to three times.
 *
 * @param work a query, or a transaction that Postgres rolls back as a whole if it fails
 * @throws the last error, or the first one after which a retry cannot succeed
 */
export async function withRetries<T>(
  pool: Pick<StatementPool, 'replaceConnections'>,
  work: () => Promise<T>,
  left = attempts,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const isOutdated = isPlanOutdated(error)
    // The other connections have prepared the statement too.
    if (isOutdated) pool.replaceConnections()
    if (left <= 1 || !(isOutdated || retriable.has(codeOf(error)))) throw error
    return withRetries(pool, work, left - 1)
  }
}

/**
 * Whether a column was added to a table, for example by a migration to a newer version, after this connection had prepared
 * the statement ("cached plan must not change result type"). Other errors have the same SQLSTATE, and the message may be
 * in another language, so the function of Postgres that reports the error tells them apart.
 */
function isPlanOutdated(error: unknown): boolean {
  return codeOf(error) === '0A000' && (error as { routine?: string }).routine === 'RevalidateCachedQuery'
}

/** Returns the SQLSTATE of Postgres, or the code of an error of the connection. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
