/**
 * What Doorbell needs from a database: reading, and changing in atomic steps. Two engines keep it, SQLite and Postgres,
 * with one SQL text; `docs/storage.md` tells the rules that text obeys.
 */

export type Value = string | number | null

/** One SQL statement with numbered parameters: `$1` is `values[0]`. */
export interface Statement {
  sql: string
  values: Value[]
}

/** Something happened that other parts, or other nodes, may be waiting for. `key` holds no secret. */
export interface Change {
  topic: string
  key: string
}

export interface StepOptions {
  /** Carried out in the same atomic step, in this order, and only if the first statement returned a row. */
  also?: Statement[]
  /** Published when the step has been committed, on every node, and only if the first statement returned a row. */
  announce?: Change[]
  /**
   * Steps with the same word here run one after the other, on all nodes, so that `first` may count what other such
   * steps added. Any text without secrets; several, if it counts several things.
   */
  alone?: string | string[]
}

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
  step<Row>(first: Statement, options?: StepOptions): Promise<Row[]>

  /**
   * Hears of changes announced on `topic`, by this node or another. The key '' means: you may have missed something,
   * because announcements did not reach us for a while. `heard` must not throw. Returns a function that stops listening.
   */
  listen(topic: string, heard: (key: string) => void): () => void

  /** Whether announcements of other nodes reach us at the moment. Always true on SQLite, which serves one process. */
  readonly listening: boolean

  /**
   * Which stretch of time this is, each without a gap in what is heard; nothing during a gap. What was read within a
   * stretch, and has not been announced as changed since, is still as it was read while the stretch lasts. On SQLite a
   * stretch ends when another process writes.
   */
  readonly stretch: number | undefined

  /**
   * For migrations only: carries out `work` while no other process does the same, all of it or, if it throws, nothing.
   * The work goes through `run` alone; `read` and `step` of the same database may wait until it is over.
   */
  exclusively<T>(work: (run: Run) => Promise<T>): Promise<T>

  /** Resolves when running steps are done and the database is let go. */
  close(): Promise<void>
}
