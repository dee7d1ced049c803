/** Databases with all tables, and rows to insert. For tests that do not use HTTP. */
import type { TestContext } from 'node:test'
import {
  type AuthenticationRequest,
  callBackAad,
} from '../../src/ciba/authentication-request/authentication-request.ts'
import { createRequestStore } from '../../src/ciba/authentication-request/authentication-request-store.ts'
import { createOpenRequestStore } from '../../src/ciba/authentication-request/open-request-store.ts'
import type { Settlement } from '../../src/ciba/authentication-request/request-move-store.ts'
import { createDecisionStore } from '../../src/ciba/decision/consent-history-store.ts'
import { createDecide, type DecisionNeeds } from '../../src/ciba/decision/decide.ts'
import { createBlockedClientStore } from '../../src/ciba/request-limits/blocked-client-store.ts'
import { createDenialPauseStore } from '../../src/ciba/request-limits/denial-pause-store.ts'
import type { Capacity } from '../../src/outbox/concurrency-limits.ts'
import {
  compose,
  type NewNotification,
  type NotificationState,
  type OutboxMessage,
} from '../../src/outbox/notification.ts'
import { createOutboxStore } from '../../src/outbox/outbox-store.ts'
import { createAudit } from '../../src/platform/audit.ts'
import { createVault, newId, newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database, Value } from '../../src/platform/storage/database.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { createStageClock } from './clock.ts'
import type { Engine } from './engines.ts'

export const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))

/**
 * Creates a database with all tables, and opens it `count` times. After the test, all connections are closed and the
 * database is dropped.
 */
export async function furnished(
  t: TestContext,
  engine: Engine,
  { count = 1, open = openDatabase }: { count?: number; open?: typeof openDatabase } = {},
) {
  const { url, drop } = await engine.fresh({ mayHaveTables: true })
  const clock = createStageClock()
  const logLines: string[] = []
  const log = createLog('debug', { write: (line) => void logLines.push(line) })
  const databases: Database[] = []
  t.after(async () => {
    await Promise.all(databases.map((database) => database.close()))
    await drop()
  })
  for (let number = 0; number < count; number++) databases.push(await open(url, { log, clock }))
  await migrate(databases[0]!, clock)

  const nodes = databases.map((database) => {
    const requests = createRequestStore(database)
    const decisions = createDecisionStore(database)
    const outbox = createOutboxStore(database)
    const audit = createAudit({ clock, log, listeners: [] })
    const needs: DecisionNeeds = {
      requests,
      openRequests: createOpenRequestStore(database),
      outbox,
      decisions,
      blockedClients: createBlockedClientStore(database),
      denialPauses: createDenialPauseStore(database, { first: 0, longest: 0 }),
      findUser: async (id) => ({ id }),
      findClient: async () => undefined,
      vault,
      clock,
      log,
      audit,
    }
    return { database, requests, decisions, outbox, needs, decide: createDecide(needs) }
  })
  return { url, clock, log, logLines, nodes, one: nodes[0]!, other: nodes.at(-1)! }
}

/** Returns a pending request about Ana, created at `now`. By default, its client is Kiosk. */
export function newRequest(now: number, more: Partial<AuthenticationRequest> = {}): AuthenticationRequest {
  const id = more.id ?? newId(now)
  const deliveryMode = more.deliveryMode ?? 'poll'
  const callsBack = deliveryMode !== 'poll'
  const callBack = { authReqId: `urn:${id}`, notificationToken: newSecret(24) }
  return {
    id,
    clientId: { poll: 'kiosk', ping: 'northbank', push: 'till' }[deliveryMode],
    userId: 'user-ana',
    scope: 'openid',
    acrValues: undefined,
    bindingMessage: 'Coffee 4.20',
    authorizationDetails: undefined,
    approvedDetails: undefined,
    resources: undefined,
    deliveryMode,
    notificationEndpoint: callsBack ? 'http://localhost:9/notify' : undefined,
    callBackSealed: callsBack ? vault.seal(JSON.stringify(callBack), callBackAad(id)) : undefined,
    status: 'pending',
    createdAt: now,
    expiresAt: now + 600_000,
    interval: 5,
    settledAt: undefined,
    binding: { certificate: undefined, dpopKey: undefined },
    authentication: {},
    ...more,
  }
}

/** Returns a new message. */
export function newMessage(now: number, more: Partial<NewNotification> & { dueAt?: number } = {}): OutboxMessage {
  const { dueAt = now, ...notification } = more
  const content = {
    kind: 'tea',
    subject: newId(now),
    receiver: 'ana',
    content: { tea: 'green' },
    giveUpAt: now + 600_000,
  }
  return { ...compose({ ...content, ...notification }, now, vault), dueAt }
}

type KindLimit = Pick<Capacity['kinds'][number], 'kind' | 'room'> & Partial<Capacity['kinds'][number]>
type ReceiverLimit = Pick<Capacity['receivers'][number], 'kind' | 'receiver' | 'room'> &
  Partial<Capacity['receivers'][number]>

/** Returns the capacity for a claim of messages. It is unlimited, unless the arguments limit it. */
export const capacityFor = ({
  kinds = [],
  receivers = [],
  ofOtherKind = 100,
  ofOtherReceiver = 100,
}: {
  kinds?: KindLimit[]
  receivers?: ReceiverLimit[]
  ofOtherKind?: number
  ofOtherReceiver?: number
} = {}): Capacity => ({
  kinds: kinds.map((limit) => ({ roomOfNew: limit.room, roomOfSlow: limit.room, ...limit })),
  receivers: receivers.map((limit) => ({ underWay: 0, standing: 'new', ...limit })),
  ofOtherKind,
  ofOtherReceiver,
})

/** Adds messages to the outbox, in a step without other effects. */
export async function post(database: Database, ...letters: OutboxMessage[]): Promise<void> {
  const { add } = createOutboxStore(database)
  await database.step(
    { sql: 'select 1 as one', values: [] },
    { also: letters.map(add), announce: [{ topic: 'outbox', key: '' }] },
  )
}

/** Returns the settlement of a request that Ana has approved. */
export function approval(now: number): Settlement {
  return { userId: 'user-ana', outcome: 'approved', settledBy: newId(now), now, authentication: {} }
}

/** Resolves to all rows of a table. */
export function allRows(database: Database, table: string, order = '1'): Promise<Record<string, Value>[]> {
  return database.read<Record<string, Value>>(`select * from ${table} order by ${order}`)
}

/** Inserts a row. Columns that `row` does not contain get their defaults. */
export async function insert(database: Database, table: string, row: Record<string, Value>): Promise<void> {
  const names = Object.keys(row)
  const values = names.map((_, index) => `$${index + 1}`)
  const sql = `insert into ${table} (${names.join(', ')}) values (${values.join(', ')}) returning 1 as one`
  await database.step({ sql, values: Object.values(row) })
}

/** Resolves to the number of notifications in each state. */
export async function countByState(database: Database): Promise<Record<NotificationState, number>> {
  const counts = { waiting: 0, sending: 0, delivered: 0, parked: 0 }
  for (const { state } of await allRows(database, 'notifications')) counts[state as NotificationState] += 1
  return counts
}
