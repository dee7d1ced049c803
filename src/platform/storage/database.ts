/**
 * What Doorbell needs from a database: reads, and changes in atomic steps. SQLite and Postgres implement it with one SQL
 * text; `docs/reference/storage.md` has the rules for that text.
 */

export type Value = string | number | null

/** One SQL statement with numbered parameters: `$1` is `values[0]`. */
export interface SingleStatement {
  sql: string
  values: Value[]
}

/**
 * A statement about a list of rows, its only parameter: `rows($1) as …`. Statements with the same text can be merged, see
 * `mergeRowStatements`. An undefined member becomes null in SQL, and is cheaper than an explicit null.
 */
export interface ListStatement {
  sql: string
  rows: Record<string, Value | undefined>[]
}

export type Statement = SingleStatement | ListStatement

/** A change that other parts of the server, or other nodes, may be waiting for. `key` contains no secret. */
export interface Change {
  topic: string
  key: string
}

/** What else happens in a step, or after it. */
export interface StepOptions<Row = unknown> {
  /** Executed in the same atomic step, in this order, and only if the first statement returned a row. */
  also?: Following<Row, Statement>
  /** Published when the step has been committed, on every node, and only if the first statement returned a row. */
  announce?: Following<Row, Change>
  /**
   * Steps that share a lock key run one after the other, on all nodes, so that `first` may count rows that other such steps
   * added. Any text without secrets; several if it counts several things.
   */
  lockKeys?: string | string[]
}

/** Items known in advance, or computed from the rows that the first statement returned. */
export type Following<Row, Item> = Item[] | ((rows: Row[]) => Item[])

/** Executes one statement and resolves to its rows. */
export type Run = <Row>(sql: string, values?: Value[]) => Promise<Row[]>

/** An open database. */
export interface Database {
  readonly engine: 'sqlite' | 'postgres'

  /** Executes a statement that changes nothing, and resolves to its rows. */
  read<Row>(sql: string, values?: Value[]): Promise<Row[]>

  /**
   * Executes one atomic step. `first` is a conditional change with `returning`. If it returns no row, another step was
   * faster or the condition does not hold, and no other statement of the step is executed. If any statement fails, nothing
   * of the step has happened. When the promise resolves, the step is durable.
   *
   * @returns the rows of `first`
   */
  step<Row>(first: Statement, options?: StepOptions<Row>): Promise<Row[]>

  /**
   * Calls `listener` for each change announced on `topic`, by this node or another. The key '' means that announcements may
   * have been missed. `listener` must not throw. Returns a function that stops listening.
   */
  listen(topic: string, listener: (key: string) => void): () => void

  /** Whether announcements of other nodes are received at the moment. Always true on SQLite, which serves one process. */
  readonly listening: boolean

  /**
   * The number of the current epoch, a period in which no announcement can have been missed; undefined between epochs. A row
   * that was read in an epoch, and has not been announced as changed since, is unchanged while that epoch lasts. On SQLite
   * an epoch ends when another process writes.
   */
  readonly epoch: number | undefined

  /**
   * Resolves to whether changes are possible at the moment: not on a standby, on a file that was moved away, or on a full
   * disk. Rejects if the database cannot be reached. Costs one trivial statement, or a check of the file; while the disk is
   * full, also a write once a second.
   */
  writable(): Promise<boolean>

  /**
   * For migrations only: executes `work` in one transaction, while no other process can do the same. If it throws, nothing
   * has happened. `work` must use `run` only: `read` and `step` of the same database may wait until it ends.
   */
  exclusively<T>(work: (run: Run) => Promise<T>): Promise<T>

  /** Resolves when running steps are done and the database is closed. */
  close(): Promise<void>
}

/** Returns the parameters of a statement; a list of rows is one JSON text. */
export function valuesOf(statement: Statement): Value[] {
  return 'rows' in statement ? [JSON.stringify(statement.rows)] : statement.values
}

/**
 * Returns a limit clause with the number in the text: Postgres assumes that a limit given as a parameter is a tenth of the
 * table, and plans for that. Use it only for constants of the program.
 *
 * @throws {RangeError} if `most` is not a non-negative integer
 */
export function atMostRows(most: number): string {
  if (!Number.isSafeInteger(most) || most < 0) throw new RangeError(`not a number of rows: ${most}`)
  return `limit ${most}`
}

/** Returns the items, computed from the rows if they are a function. */
export function resolveFollowUps<Row, Item>(what: Following<Row, Item> = [], rows: Row[]): Item[] {
  return typeof what === 'function' ? what(rows) : what
}

/**
 * Returns the statements with row statements of the same text merged into one, at the position of the first.
 *
 * @example
 * mergeRowStatements([{ sql: 'a', rows: [{ n: 1 }] }, { sql: 'b', values: [] }, { sql: 'a', rows: [{ n: 2 }] }])
 * // [{ sql: 'a', rows: [{ n: 1 }, { n: 2 }] }, { sql: 'b', values: [] }]
 */
export function mergeRowStatements(statements: Statement[]): Statement[] {
  const lists = new Map<string, ListStatement>()
  return statements.flatMap((statement): Statement[] => {
    if (!('rows' in statement)) return [statement]
    const list = lists.get(statement.sql)
    if (list) {
      list.rows.push(...statement.rows)
      return []
    }
    const added = { sql: statement.sql, rows: [...statement.rows] }
    lists.set(statement.sql, added)
    return [added]
  })
}
