/**
 * Steps on Postgres. Those that arrive together are committed together: one transaction, one or two round trips, one
 * sync to disk. If one of them fails, nothing of any has happened, and each is carried out by itself: then only the one
 * fails whose fault it was.
 */
import { createHash } from 'node:crypto'
import type { Pool, PoolClient, QueryResult } from 'pg'
import type { Change, Statement, StepOptions } from './database.ts'
import { channel, type OwnVoice } from './postgres-subscription.ts'
import { wordsOfPostgres } from './words.ts'

/** Why a transaction is worth another try: nothing of it happened, and it was not its own fault. */
const retriable = new Set(['40001', '40P01'])
const attempts = 3

/** Any number, as long as no other program on the same database means something else by it. */
export const exclusiveLock = 0x646f6f72

const mostTogether = 64
/** Groups on their way at the same time. While they are, the next one gathers. */
const groupsAtOnce = 4

type Rows = Record<string, unknown>[]

interface Step {
  first: Statement
  also: Statement[]
  announce: Change[]
  locks: number[]
}

interface QueuedStep {
  step: Step
  resolve(rows: Rows): void
  reject(error: unknown): void
}

/** Nothing of what was attempted has happened, for certain. */
class Undone {
  readonly reason: unknown
  constructor(reason: unknown) {
    this.reason = reason
  }
}

export function createSteps(pool: Pool, voice: OwnVoice) {
  let queue: QueuedStep[] = []
  let underWay = 0

  function gather(): void {
    if (queue.length === 1) setImmediate(setOut)
  }

  function setOut(): void {
    while (queue.length > 0 && underWay < groupsAtOnce) {
      const group = queue.slice(0, mostTogether)
      queue = queue.slice(mostTogether)
      underWay += 1
      void carryOut(group).finally(() => {
        underWay -= 1
        setOut()
      })
    }
  }

  async function carryOut(group: QueuedStep[]): Promise<void> {
    if (group.length > 1) {
      try {
        const rows = await attempt(group.map(({ step }) => step))
        for (const [index, { resolve }] of group.entries()) resolve(rows[index]!)
        return
      } catch (error) {
        if (!(error instanceof Undone)) {
          for (const { reject } of group) reject(error)
          return
        }
      }
    }
    await Promise.all(group.map(({ step, resolve, reject }) => alone(step).then(resolve, reject)))
  }

  async function alone(step: Step, left = attempts): Promise<Rows> {
    try {
      const [rows] = await attempt([step])
      return rows!
    } catch (error) {
      if (!(error instanceof Undone)) throw error
      if (left <= 1 || !retriable.has(codeOf(error.reason))) throw error.reason
      return alone(step, left - 1)
    }
  }

  /** @throws {Undone} if nothing has happened; anything else if nobody knows */
  async function attempt(steps: Step[]): Promise<Rows[]> {
    const spoken = steps.map((step) => ({ ...step, voice: voice.say(step.announce) }))
    const firsts = spoken.map((step) =>
      step.announce.length > 0 && speaksAtOnce(step) ? announcing(step.first, step.voice.payloads) : step.first,
    )
    const rows = await withClient(pool, (client) => transact(client, spoken, firsts))
    for (const [index, step] of spoken.entries()) if (rows[index]!.length > 0) step.voice.tellHere()
    return rows
  }

  return async <Row>(first: Statement, options: StepOptions = {}): Promise<Row[]> => {
    const step = { first, also: options.also ?? [], announce: options.announce ?? [], locks: locksOf(options.alone) }
    const rows = await new Promise<Rows>((resolve, reject) => {
      queue.push({ step, resolve, reject })
      gather()
    })
    return rows as Row[]
  }
}

type SpokenStep = Step & { voice: { payloads: string } }

/** Everything that is known beforehand travels at once. What depends on who has won follows. */
async function transact(client: PoolClient, steps: SpokenStep[], firsts: Statement[]): Promise<Rows[]> {
  const locks = steps.flatMap((step) => step.locks)
  const isSimple = steps.every((step) => step.also.length === 0 && speaksAtOnce(step))
  if (isSimple && steps.length === 1 && locks.length === 0) return [await sendOne(client, firsts[0]!)]

  const begin = [client.query('begin'), ...(locks.length > 0 ? [send(client, taking(locks))] : [])]
  const opening = [...begin, ...firsts.map((first) => send(client, first))]
  const results = await (isSimple ? commit(client, opening) : insist(client, opening))
  const rows = results.slice(begin.length).map((result) => result.rows as Rows)
  if (isSimple) return rows

  const won = steps.filter((_, index) => rows[index]!.length > 0)
  const unsaid = won.filter((step) => !speaksAtOnce(step)).map(({ voice }) => notifying(voice.payloads))
  const following = [...won.flatMap(({ also }) => also), ...unsaid]
  await commit(
    client,
    following.map((statement) => send(client, statement)),
  )
  return rows
}

async function sendOne(client: PoolClient, statement: Statement): Promise<Rows> {
  try {
    return (await send(client, statement)).rows as Rows
  } catch (error) {
    throw isRefused(error) ? new Undone(error) : error
  }
}

/** All of it, or the transaction ends. */
async function insist(client: PoolClient, sent: Promise<QueryResult>[]): Promise<QueryResult[]> {
  const settled = await Promise.allSettled(sent)
  const failed = settled.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined
  if (failed === undefined) return settled.map((each) => (each as PromiseFulfilledResult<QueryResult>).value)
  if (!isRefused(failed.reason)) throw failed.reason
  await client.query('rollback')
  throw new Undone(failed.reason)
}

/** Asks for the commit without waiting for what goes before. Where something there failed, Postgres rolls back instead. */
async function commit(client: PoolClient, sent: Promise<QueryResult>[]): Promise<QueryResult[]> {
  const [committed, ...settled] = await Promise.allSettled([client.query('commit'), ...sent])
  const failed = settled.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined
  if (committed!.status === 'rejected') {
    throw isRefused(committed!.reason) ? new Undone(failed?.reason ?? committed!.reason) : committed!.reason
  }
  if (failed !== undefined) throw new Undone(failed.reason)
  return settled.map((each) => (each as PromiseFulfilledResult<QueryResult>).value)
}

/** A connection that is lost is in nobody's hands any more, so it is thrown away. */
async function withClient<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  // Between a connection's loss and our noticing, the loss is an event, and without a listener it would end the process.
  const lost = (error: Error) => {
    broken = error
  }
  client.on('error', lost)
  try {
    return await work(client)
  } catch (error) {
    if (!(error instanceof Undone)) broken ??= error as Error
    throw error
  } finally {
    client.off('error', lost)
    client.release(broken)
  }
}

/** Whether Postgres itself refused, with the connection whole: then it is known what has happened. */
function isRefused(error: unknown): boolean {
  return error instanceof Error && 'severity' in error && error.severity === 'ERROR'
}

function send(client: PoolClient, { sql, values }: Statement): Promise<QueryResult> {
  return client.query({ ...prepared(sql), values })
}

/** Of two words with the same hash one waits for nothing; that is all. */
function locksOf(alone: string | string[] = []): number[] {
  return [alone].flat().map((word) => createHash('sha256').update(word).digest().readInt32BE())
}

/**
 * A statement sees what was committed when it began, so locks are taken by one before it. Everybody takes several in the
 * same order, so that no two wait for each other.
 */
function taking(locks: number[]): Statement {
  const inOrder = [...new Set(locks)].sort((a, b) => a - b)
  return {
    sql: `select pg_advisory_xact_lock(${exclusiveLock}, cast(each.value as integer)) from each($1)`,
    values: [JSON.stringify(inOrder)],
  }
}

function speaksAtOnce({ first, also, announce }: Step): boolean {
  return announce.length === 0 || (also.length === 0 && canBeWrapped(first))
}

/** Postgres allows no changing statement in a `with` within a `with`. */
function canBeWrapped({ sql }: Statement): boolean {
  return !/^\s*with\b[\s\S]*\(\s*(insert|update|delete|merge)\b/i.test(sql)
}

/**
 * The change and its announcements in one statement. `said` has exactly one row whatever happens, being a count, and
 * it counts nothing, and so says nothing, when the change returned no row.
 */
function announcing({ sql, values }: Statement, payloads: string): Statement {
  return {
    sql: `with step as (${sql}
), said as materialized (
  select count(pg_notify('${channel}', each.value)) from each($${values.length + 1}) where exists (select 1 from step)
) select step.* from step cross join said`,
    values: [...values, payloads],
  }
}

function notifying(payloads: string): Statement {
  return { sql: `select pg_notify('${channel}', each.value) from each($1)`, values: [payloads] }
}

const known = new Map<string, { name: string; text: string }>()

/** A named statement is planned once on each connection. Statements are constants of the program, so the map stays small. */
export function prepared(sql: string): { name: string; text: string } {
  const found = known.get(sql)
  if (found) return found
  const statement = {
    name: createHash('sha256').update(sql).digest('base64url').slice(0, 16),
    text: wordsOfPostgres(sql),
  }
  known.set(sql, statement)
  return statement
}

export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
