/**
 * What Doorbell needs from a database: reading, and changing in atomic steps. Two engines keep it, SQLite and Postgres,
 * with one SQL text; `docs/reference/storage.md` tells the rules that text obeys.
 */

export type Value = string | number | null

/** One SQL statement with numbered parameters: `$1` is `values[0]`. */
export interface SingleStatement {
  sql: string
  values: Value[]
}

/**
 * A statement about rows: its one parameter is their list, `rows($1) as …`. Several with the same text can be carried
 * out as one about all their rows, see `mergeRowStatements`. A member that is undefined is null, and costs the engines less than one
 * that says so.
 */
export interface ListStatement {
  sql: string
  rows: Record<string, Value | undefined>[]
}

export type Statement = SingleStatement | ListStatement

/** Something happened that other parts, or other nodes, may be waiting for. `key` holds no secret. */
export interface Change {
  topic: string
  key: string
}

export interface StepOptions<Row = unknown> {
  /** Carried out in the same atomic step, in this order, and only if the first statement returned a row. */
  also?: Following<Row, Statement>
  /** Published when the step has been committed, on every node, and only if the first statement returned a row. */
  announce?: Following<Row, Change>
  /**
   * Steps with the same word here run one after the other, on all nodes, so that `first` may count what other such
   * steps added. Any text without secrets; several, if it counts several things.
   */
  lockKeys?: string | string[]
}

/** What follows: known before, or told by the rows that the first statement returned. */
export type Following<Row, Item> = Item[] | ((rows: Row[]) => Item[])

export type Run = <Row>(sql: string, values?: Value[]) => Promise<Row[]>

export interface Database {
  readonly engine: 'sqlite' | 'postgres'

  /** Reads. The statement changes nothing. */
  read<Row>(sql: string, values?: Value[]): Promise<Row[]>

  /**
   * One atomic step. `first` decides: it is a conditional change with `returning`. If it returns no row, somebody else
   * was faster or the condition does not hold, and nothing else of the step happens. If any statement fails, nothing
   * of the step has happened. When the promise resolves the step is durable.
   *
   * @returns the rows of `first`
   */
  step<Row>(first: Statement, options?: StepOptions<Row>): Promise<Row[]>

  /**
   * Hears of changes announced on `topic`, by this node or another. The key '' means: you may have missed something,
   * because announcements did not reach us for a while. `listener` must not throw. Returns a function that stops listening.
   */
  listen(topic: string, listener: (key: string) => void): () => void

  /** Whether announcements of other nodes reach us at the moment. Always true on SQLite, which serves one process. */
  readonly listening: boolean

  /**
   * Which stretch of time this is, each without a gap in what is heard; nothing during a gap. What was read within a
   * stretch, and has not been announced as changed since, is still as it was read while the stretch lasts. On SQLite a
   * stretch ends when another process writes.
   */
  readonly epoch: number | undefined

  /**
   * Whether it takes changes at the moment: a standby does not, nor does a file that was moved away, nor a full disk.
   * Rejects if it cannot be reached. Costs one trivial statement, or a look at the file; once a second while the disk is
   * full, a write.
   */
  writable(): Promise<boolean>

  /**
   * For migrations only: carries out `work` while no other process does the same, all of it or, if it throws, nothing.
   * The work goes through `run` alone; `read` and `step` of the same database may wait until it is over.
   */
  exclusively<T>(work: (run: Run) => Promise<T>): Promise<T>

  /** Resolves when running steps are done and the database is let go. */
  close(): Promise<void>
}

export function valuesOf(statement: Statement): Value[] {
  return 'rows' in statement ? [JSON.stringify(statement.rows)] : statement.values
}

/**
 * How many rows a statement brings at most, as its last words: in the text, because Postgres takes a parameter there for a
 * tenth of the table, and plans for that. For the few numbers that are constants of the program.
 */
export function atMostRows(most: number): string {
  if (!Number.isSafeInteger(most) || most < 0) throw new RangeError(`not a number of rows: ${most}`)
  return `limit ${most}`
}

export function resolveFollowUps<Row, Item>(what: Following<Row, Item> = [], rows: Row[]): Item[] {
  return typeof what === 'function' ? what(rows) : what
}

/**
 * The same with fewer statements: those about rows that have the same text become one, at the place of the first.
 *
 * @example
 * joined([{ sql: 'a', rows: [{ n: 1 }] }, { sql: 'b', values: [] }, { sql: 'a', rows: [{ n: 2 }] }])
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
