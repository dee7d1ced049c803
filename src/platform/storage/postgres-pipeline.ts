/**
 * Statements that travel together: sent in one piece, answered in one piece. What `pg` has for this asks Postgres for an
 * answer after each statement, which costs more than most statements do.
 */
import type { Connection, DatabaseError, PoolClient, Submittable } from 'pg'

export interface PreparedStatement {
  /** Planned once on each connection, under this name. */
  name: string
  text: string
  values: readonly (string | number | null)[]
}

type Row = Record<string, unknown>

/** How a value of a type is read from its text. */
type ParserOf = (type: number) => (text: string) => unknown

/**
 * Carries them out in their order, and answers the rows of each. After one that fails none is carried out; then the
 * connection must not be used any more, because nobody knows which of them it has prepared.
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

/** What has been prepared on which connection. */
const preparedOn = new WeakMap<object, Set<string>>()

interface Field {
  name: string
  parse(text: string): unknown
}

/** What pg calls with each message, as it calls its own queries. */
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

  /** Of the statements, or of the connection. pg forgets us then, so it is the end. */
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
