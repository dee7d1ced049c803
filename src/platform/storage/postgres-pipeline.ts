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
 * Executes the statements in order and resolves to the rows of each. If a statement fails, the statements after it are not
 * executed, and the connection must not be used any more: it is unknown which statements are prepared on the connection.
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

/** The names of the statements that were prepared on each connection. */
const preparedOn = new WeakMap<object, Set<string>>()

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
  #fields: Field[] = []
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
    const prepared = preparedOn.get(connection) ?? new Set()
    preparedOn.set(connection, prepared)
    connection.stream.cork()
    for (const { name, text, values } of this.#statements) {
      if (!prepared.has(name)) connection.parse({ name, text, types: [] }, true)
      prepared.add(name)
      connection.bind({ statement: name, values: values.map(toText) }, true)
      connection.describe({ type: 'P' }, true)
      connection.execute(null, true)
    }
    connection.sync()
    connection.stream.uncork()
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
    this.#answers.push(this.#rows)
    this.#rows = []
    this.#fields = []
  }

  /** Called with an error of a statement or of the connection. After that, `pg` passes no further message to this object. */
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
