/**
 * Sends several statements in one round trip. `pg` can also send several statements, but it requests a response from
 * Postgres after each of them, which costs more than most statements.
 */
import type { Connection, DatabaseError, PoolClient, Submittable } from 'pg'

/** A statement with a name. It is prepared once on each connection. */
export interface PreparedStatement {
  name: string
  text: string
  values: readonly (string | number | null)[]
}

type Row = Record<string, unknown>

/** Returns the function that parses values of this type, which Postgres sends as text. */
type ParserOf = (type: number) => (text: string) => unknown

/**
 * Executes the statements in order and resolves to the rows of each. If a statement fails, the statements after it are
 * not executed. Then the connection must not be used any more, because it is unknown which statements are prepared on
 * it.
 */
export function sendTogether(
  client: PoolClient,
  statements: readonly PreparedStatement[],
  parserOf: ParserOf,
): Promise<Row[][]> {
  return new Promise((resolve, reject) => {
    client.query(new Pipeline(statements, parserOf, resolve, reject))
  })
}

/**
 * The columns of the statements that were executed on each connection, by name. Postgres is asked for the columns of a
 * statement only once on each connection, because describing them takes about as long as executing a simple statement.
 */
const columnsOn = new WeakMap<object, Columns>()

/** The columns of each statement, by the name of the statement. */
type Columns = Map<string, readonly Field[]>

interface Field {
  name: string
  parse(text: string): unknown
}

/** `pg` passes each message from Postgres to this object, in the same way as to its own query objects. */
class Pipeline implements Submittable {
  readonly #statements: readonly PreparedStatement[]
  readonly #parserOf: ParserOf
  readonly #resolve: (answers: Row[][]) => void
  readonly #reject: (error: Error) => void
  readonly #answers: Row[][] = []
  #columns: Columns = new Map()
  /** The columns of the statement whose response is being received; empty until they are described. */
  #fields: readonly Field[] = []
  #rows: Row[] = []

  constructor(
    statements: readonly PreparedStatement[],
    parserOf: ParserOf,
    resolve: (answers: Row[][]) => void,
    reject: (error: Error) => void,
  ) {
    this.#statements = statements
    this.#parserOf = parserOf
    this.#resolve = resolve
    this.#reject = reject
  }

  submit(connection: Connection): void {
    this.#columns = columnsOn.get(connection) ?? this.#columns
    columnsOn.set(connection, this.#columns)
    const parsed = new Set<string>()
    connection.stream.cork()
    for (const { name, text, values } of this.#statements) {
      const isKnown = this.#columns.has(name)
      if (!isKnown && !parsed.has(name)) connection.parse({ name, text, types: [] }, true)
      parsed.add(name)
      connection.bind({ statement: name, values: values.map(toText) }, true)
      if (!isKnown) connection.describe({ type: 'P' }, true)
      connection.execute(null, true)
    }
    connection.sync()
    connection.stream.uncork()
    this.#fields = this.#columnsOfNext()
  }

  /** Returns the columns of the statement whose response comes next, or an empty list if they are not known yet. */
  #columnsOfNext(): readonly Field[] {
    const next = this.#statements[this.#answers.length]
    return (next && this.#columns.get(next.name)) ?? []
  }

  handleRowDescription({ fields }: { fields: { name: string; dataTypeID: number }[] }): void {
    this.#fields = fields.map(({ name, dataTypeID }) => ({ name, parse: this.#parserOf(dataTypeID) }))
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    const row: Row = {}
    for (const [index, { name, parse }] of this.#fields.entries()) {
      const text = fields[index]!
      row[name] = text === null ? null : parse(text)
    }
    this.#rows.push(row)
  }

  handleCommandComplete(): void {
    const { name } = this.#statements[this.#answers.length]!
    if (!this.#columns.has(name)) this.#columns.set(name, this.#fields)
    this.#answers.push(this.#rows)
    this.#rows = []
    this.#fields = this.#columnsOfNext()
  }

  /**
   * Called with an error of a statement or of the connection. After that, `pg` passes no further message to this
   * object.
   */
  handleError(error: DatabaseError): void {
    this.#reject(error)
  }

  handleReadyForQuery(): void {
    this.#resolve(this.#answers)
  }
}

function toText(value: string | number | null): string | null {
  return value === null ? null : String(value)
}
