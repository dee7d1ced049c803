import { atMostRows, type SingleStatement, type Value } from './database.ts'

/** The old rows to delete from a table. There may be very many of them, because the table may have grown for days. */
export interface OldRows {
  table: string
  /** The columns of the primary key, separated by commas. */
  key: string
  /** SQL: the condition for the rows that are old enough. It needs an index that begins with the column `by`. */
  where: string
  /** The column with the time of a row. Rows with the earliest time are deleted first. */
  by: string
  values: Value[]
}

/**
 * Returns the statement that deletes at most `atMost` rows, so that neither SQLite's lock nor the event loop is blocked
 * for long. The statement returns one row for each deleted row. It skips rows that another transaction is using.
 */
export function deleteOldest({ table, key, where, by, values }: OldRows, atMost: number): SingleStatement {
  const sql = `with old as materialized (
      select ${key} from ${table} where ${where} order by ${by} ${atMostRows(atMost)} /* for update skip locked */
    )
    delete from ${table} where (${key}) in (select ${key} from old) returning 1 as one`
  return { sql, values }
}
