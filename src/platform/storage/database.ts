/**
 * The interface of a database: reads, and changes in atomic steps (transactions). It is implemented for SQLite and for
 * Postgres, with the same SQL; `docs/reference/storage.md` has the rules for this SQL.
 */

export type Value = string | number | null

/** One SQL statement with numbered parameters: `$1` is `values[0]`. */
export interface SingleStatement {
  sql: string
  values: Value[]
}

/**
 * A statement whose only parameter is a list of rows: `rows($1) as …`. Statements with the same SQL can be merged, see
 * `mergeRowStatements`. An undefined member becomes null in SQL, and costs less than an explicit null.
 */
export interface ListStatement {
  sql: string
  rows: Record<string, Value | undefined>[]
}

export type Statement = SingleStatement | ListStatement

/** A change of which other parts of the server and other nodes are notified. `key` must not contain a secret. */
export interface Change {
  topic: string
  key: string
}

/** The other parts of a step: further statements, changes to publish, and locks. */
export interface StepOptions<Row = unknown> {
  /** Executed in the same atomic step, in this order, and only if the first statement returned a row. */
  also?: Following<Row, Statement>
  /** Published to every node after the commit, but only if the first statement returned a row. */
  announce?: Following<Row, Change>
  /**
   * Steps that share a lock key run one after the other, on all nodes. So the rows that `first` counts, for instance to
   * check a limit, cannot change before the step ends. A key is any text without secrets. If `first` counts several
   * kinds of rows, use one key for each kind.
   */
  lockKeys?: string | string[]
  /**
   * Steps that have the same key here may run at the same time. But if one step has the key here and another has it in
   * `lockKeys`, the later step waits. It then sees what the earlier step has written.
   */
  sharedLockKeys?: string[]
  /**
   * Keys of the rows that `first` changes, if many calls at the same time may change the same row. Steps of one process
   * that share such a key run one after the other, and wait before they take a connection. If they waited in Postgres
   * for the lock of the row, each would hold a connection, until none is left for other calls.
   */
  rowKeys?: string[]
  /**
   * Set for a step that runs inside `inLockOrder`. There, `work` has already waited for the lock keys, so the step does
   * not wait again for earlier steps of this process.
   */
  hasTurn?: boolean
}

/**
 * Items that are known in advance, or a function that computes them from the rows that the first statement returned.
 */
export type Following<Row, Item> = Item[] | ((rows: Row[]) => Item[])

/** Executes one statement and resolves to its rows. */
export type Run = <Row>(sql: string, values?: Value[]) => Promise<Row[]>

/** An open database. */
export interface Database {
  readonly engine: 'sqlite' | 'postgres'

  /** Executes a statement that changes nothing, and resolves to its rows. */
  read<Row>(sql: string, values?: Value[]): Promise<Row[]>

  /**
   * Executes one atomic step. `first` is a conditional change with `returning`. If its condition does not hold, for
   * example because another step was faster, `first` returns no row. Then no other statement of the step is executed.
   * If a statement fails, the whole step is rolled back. When the promise resolves, the step is durable.
   *
   * @returns the rows of `first`
   */
  step<Row>(first: Statement, options?: StepOptions<Row>): Promise<Row[]>

  /**
   * Runs `work` when all earlier steps of this process that share one of `lockKeys` have ended. On SQLite, `work`
   * begins at once, because all steps run one after the other.
   *
   * Use this function for the items of a batch: `work` adds an item to the batch. An item is then added only when its
   * keys are free, and items with other keys do not wait for these keys. The step that executes the batch must have the
   * lock keys of all its items, and set `hasTurn`.
   *
   * @param how.yields if true and `work` has to wait, steps without `yields` that arrive within the next 250 ms run
   *   before `work`. Use it for work that clients can cause in any number, so that it does not delay the decisions of
   *   users
   */
  inLockOrder<T>(lockKeys: readonly string[], work: () => Promise<T>, how?: { yields?: boolean }): Promise<T>

  /**
   * Calls `listener` with the key of each change that this node or another publishes under `topic`. The key '' means
   * that changes may have been missed. `listener` must not throw. Returns a function that stops listening.
   */
  listen(topic: string, listener: (key: string) => void): () => void

  /**
   * Whether this node is currently notified of the changes of other nodes. Always true on SQLite, which has only one
   * node.
   */
  readonly listening: boolean

  /**
   * The number of the current epoch, or undefined if there is none. An epoch is a period in which this process is
   * notified of every change. A row that was read in an epoch is unchanged until the epoch ends or a change of the row
   * is published. On SQLite, an epoch ends when another process writes.
   */
  readonly epoch: number | undefined

  /**
   * Milliseconds to add to `steadyTime` of this process to get the time of the database's clock. All nodes use this
   * clock to compare a stored time with the current time, because the clocks of two nodes differ. Always 0 on SQLite,
   * which has only one node.
   */
  readonly clockOffset: number

  /**
   * Resolves to whether changes are possible at the moment. They are impossible on a standby, on a full disk, and after
   * the SQLite file was moved away. Rejects if the database cannot be reached. The check costs one trivial statement
   * (Postgres) or a check of the file's attributes (SQLite). While the disk is full, the check also tries to write, at
   * most once a second.
   */
  writable(): Promise<boolean>

  /**
   * For migrations only: executes `work` in one transaction. Only one process at a time can do this. If `work` throws,
   * the transaction is rolled back. `work` must use only `run`: `read` and `step` of the same database may wait until
   * `work` ends.
   */
  exclusively<T>(work: (run: Run) => Promise<T>): Promise<T>

  /** Closes the database. Resolves when running steps are done and the database is closed. */
  close(): Promise<void>
}

/** Returns the parameters of a statement. A list of rows becomes one JSON text. */
export function valuesOf(statement: Statement): Value[] {
  return 'rows' in statement ? [JSON.stringify(statement.rows)] : statement.values
}

/**
 * Returns a `limit` clause with `most` as a literal. If the limit were a parameter, Postgres would choose a plan for a
 * tenth of the table. Use this function only with constants of the program.
 *
 * @throws {RangeError} if `most` is not a non-negative integer
 */
export function atMostRows(most: number): string {
  if (!Number.isSafeInteger(most) || most < 0) throw new RangeError(`not a number of rows: ${most}`)
  return `limit ${most}`
}

/** Returns the items. If `what` is a function, it computes the items from the rows. */
export function resolveFollowUps<Row, Item>(what: Following<Row, Item> = [], rows: Row[]): Item[] {
  return typeof what === 'function' ? what(rows) : what
}

/**
 * Returns the statements, with all `ListStatement`s of the same SQL merged into one, at the position of the first of
 * them.
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
