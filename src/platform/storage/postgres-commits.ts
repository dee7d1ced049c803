/**
 * Finds out whether a transaction was committed if the response of Postgres to the commit was lost.
 *
 * Each transaction writes its number into a row that belongs to its connection (`last_commits`). If the connection
 * breaks during the commit, another connection locks that row. This lock is granted after Postgres has ended the
 * transaction. Then the row shows whether the number was written. Transaction ids do not work for this: Postgres reuses
 * an id that was lost in a crash, or that a promoted standby never received. See docs/decisions/0012-commit-unknown.md.
 */
import { type ClientBase, DatabaseError, type Pool, type PoolClient } from 'pg'
import { systemClock } from '../clock.ts'
import { newSecret } from '../crypto.ts'
import type { Statement } from './database.ts'

/** Sends statements in one round trip and resolves to the rows of each. */
export type Send = (client: PoolClient, statements: Statement[]) => Promise<Record<string, unknown>[][]>

/** A row of `last_commits`, and the number that a transaction writes into it. */
export interface CommitMark {
  connection: string
  step: number
}

/** Thrown if it is unknown whether a step was committed. SQLSTATE 08007: transaction resolution unknown. */
export class CommitUnknown extends Error {
  override readonly name = 'CommitUnknown'
  readonly code = '08007'

  constructor(cause?: unknown) {
    super('the connection was lost at the commit, and it is not known yet whether the commit happened', { cause })
  }
}

/**
 * An inquiry asks the database whether a transaction was committed. If the database has not responded after this many
 * milliseconds, the outcome counts as unknown. The time is short, because a caller waits for the result.
 */
const inquiryTimeoutMs = 4_000
/** Milliseconds between two attempts to ask the database for the outcome of a commit. */
const inquiryIntervalMs = 100

/**
 * A connection renews the time in its row of `last_commits` after this many milliseconds. So an old row can only belong
 * to a closed connection.
 */
const registrationHoldsMs = 3_600_000
/** Milliseconds from the last renewal of a row of `last_commits` until the row is removed. */
const rowsAreKeptMs = 86_400_000

const undefinedTable = '42P01'

/** Returns the functions that mark transactions, and that find out later whether they were committed. */
export function createCommits(pool: Pool, send: Send) {
  const confirmed = confirming(send)
  return { ...markingConnections(pool), happened: inquiring(pool, send, confirmed), confirmed }
}

/** Assigns a row of `last_commits` to each connection. */
function markingConnections(pool: Pool) {
  const node = newSecret(9)
  // `until` is a time of the wall clock, like the time in the row, which other processes compare with their wall
  // clocks. The steady time is not used, because it may stand still while the machine is suspended.
  const registrations = new WeakMap<PoolClient, { mark: CommitMark; until: number }>()
  /** Rows of `last_commits` whose connections were closed without an error. A new connection may use such a row. */
  const free: CommitMark[] = []
  let registered = 0

  pool.on('remove', (client) => {
    const registration = registrations.get(client)
    if (registration) free.push(registration.mark)
  })

  /** Resolves to the mark for the next transaction on this connection, or undefined if the table does not exist yet. */
  async function nextMark(client: PoolClient): Promise<CommitMark | undefined> {
    const known = registrations.get(client)
    const isKnown = known !== undefined && systemClock.now() < known.until
    const mark = isKnown ? known.mark : await register(client, known?.mark ?? free.pop())
    if (mark) mark.step += 1
    return mark && { ...mark }
  }

  async function register(
    client: PoolClient,
    mark: CommitMark = { connection: `${node}.${++registered}`, step: 0 },
  ): Promise<CommitMark | undefined> {
    const now = systemClock.now()
    try {
      await client.query(registering, [mark.connection, mark.step, now, now - rowsAreKeptMs])
    } catch (error) {
      if ((error as { code?: unknown }).code !== undefinedTable) throw error
      free.push(mark)
      return undefined
    }
    registrations.set(client, { mark, until: now + registrationHoldsMs })
    return mark
  }

  /**
   * Called for a broken connection. Its row of `last_commits` is not reused: the transaction may still be running, or
   * an inquiry may still need the row.
   */
  function giveUp(client: PoolClient): void {
    registrations.delete(client)
  }

  return { nextMark, giveUp }
}

type Confirmed = ReturnType<typeof confirming>

/** Asks the database for the outcome of a commit whose response was lost. */
function inquiring(pool: Pool, send: Send, confirmed: Confirmed) {
  /**
   * Resolves to whether the transaction in which this error occurred was committed.
   * @throws CommitUnknown if the database does not respond in time
   */
  async function happened(mark: CommitMark | undefined, error: unknown): Promise<boolean> {
    // Postgres itself reported the error of a statement, so Postgres did not commit the transaction.
    if (error instanceof DatabaseError && error.severity === 'ERROR') return false
    const step = mark && (await lastStepOf(mark.connection))
    if (step === undefined) throw new CommitUnknown(error)
    return step === mark!.step
  }

  /**
   * Resolves to the number of the last transaction that the connection committed, to 0 if the connection has no row, or
   * to undefined if the database does not respond.
   */
  async function lastStepOf(connection: string): Promise<number | undefined> {
    let isOver = false
    const timeout = Promise.withResolvers<undefined>()
    const cancel = systemClock.after(inquiryTimeoutMs, () => {
      isOver = true
      timeout.resolve(undefined)
    })
    const answer = async () => {
      while (!isOver) {
        const step = await inquire(connection).catch(() => undefined)
        if (step !== undefined) return step
        await new Promise<void>((resolve) => systemClock.after(inquiryIntervalMs, resolve))
      }
      return undefined
    }
    const step = await Promise.race([answer(), timeout.promise])
    cancel()
    return step
  }

  /**
   * Resolves to the number in the row of a connection. The statement also writes the row. So its commit waits until a
   * synchronous standby has received all earlier commits, including the one whose response was lost.
   */
  async function inquire(connection: string): Promise<number> {
    const client = await pool.connect()
    try {
      const statements = [lockTimeout, { sql: lastStep, values: [connection] }]
      const [, rows = []] = await confirmed(client, () => send(client, statements))
      client.release()
      return Number(rows[0]?.step ?? 0)
    } catch (error) {
      client.release(error as Error)
      throw error
    }
  }

  return happened
}

function confirming(send: Send) {
  /**
   * Runs `commit`. If the wait for a synchronous standby is cancelled, Postgres reports the commit as done, with a
   * warning. In that case, this function sends another write and waits until the standby has received it. The standby
   * receives all writes in order, so it then has the commit too.
   *
   * @throws CommitUnknown if the other write does not reach the standby either
   */
  async function confirmed<T>(client: PoolClient, commit: () => Promise<T>): Promise<T> {
    const before = warningsOn(client)
    const result = await commit()
    if (warningsOn(client) === before) return result
    const afterwards = warningsOn(client)
    await send(client, [write]).catch((error: unknown) => {
      throw new CommitUnknown(error)
    })
    if (warningsOn(client) !== afterwards) throw new CommitUnknown()
    return result
  }

  return confirmed
}

const registering = `
  with pruned as (
    delete from last_commits where connection in (
      select connection from last_commits where registered_at < $4 and connection <> $1 for update skip locked
    )
  )
  insert into last_commits (connection, step, registered_at) values ($1, $2, $3)
  on conflict (connection) do update set step = excluded.step, registered_at = excluded.registered_at`

/** Returns the statement that writes the mark of a transaction. It is the first statement of the transaction. */
export function marking({ connection, step }: CommitMark): Statement {
  return { sql: 'update last_commits set step = $2 where connection = $1', values: [connection, step] }
}

const lockTimeout: Statement = {
  sql: `select set_config('lock_timeout', '${inquiryTimeoutMs}', true)`,
  values: [],
}

/**
 * Postgres executes this statement only after the transaction that has locked the row has ended. The statement must
 * have no condition on `step`: if the row does not meet the condition before that transaction changes it, Postgres
 * would not wait.
 */
const lastStep = 'update last_commits set step = step where connection = $1 returning step'

/** A write that changes no table: a message in the write-ahead log. */
const write: Statement = { sql: `select pg_logical_emit_message(true, 'doorbell', '')`, values: [] }

const warnings = new WeakMap<object, number>()

const warningsOn = (client: object) => warnings.get(client) ?? 0

/** Counts the warnings that Postgres sends on a connection from now on. */
export function countWarnings(client: ClientBase): void {
  client.on('notice', ({ code }) => {
    if (code !== '00000') warnings.set(client, warningsOn(client) + 1)
  })
}
