/**
 * An outbox worker with a kind of message that has nothing to do with CIBA. It shows that the outbox does not depend on
 * CIBA.
 */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Send, Senders } from '../../src/outbox/delivery.ts'
import type { OutboxMessage, Outcome } from '../../src/outbox/notification.ts'
import { createOutboxStore } from '../../src/outbox/outbox-store.ts'
import { createOutboxWorker, type OutboxWorker } from '../../src/outbox/outbox-worker.ts'
import { createAudit } from '../../src/platform/audit.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openSqlite } from '../../src/platform/storage/sqlite.ts'
import { createStageClock } from './clock.ts'
import { newMessage } from './rows.ts'

export const drunk: Outcome = { kind: 'delivered', words: 'drunk' }
export const spilt: Outcome = { kind: 'failed', words: 'spilt' }

export const start = 1_700_000_000_000
export const tea = (more: Parameters<typeof newMessage>[1] = {}) => newMessage(start, more)

/** Returns a worker. Its database is new, unless `on` is given. By default every message is delivered. */
export async function teaRoom(
  t: TestContext,
  { attempts = 8, timeout = 1000, on }: { attempts?: number; timeout?: number; on?: Database } = {},
) {
  const clock = createStageClock(start)
  const logLines: string[] = []
  const log = createLog('debug', { write: (line) => void logLines.push(line) })
  const table: Database = on ?? openSqlite(':memory:')
  if (on === undefined) await migrate(table, clock)
  const outbox = createOutboxStore(table)

  let claims = 0
  let failures = 0
  let writingFailures = 0
  let beforeWriting = () => {}
  const unreliable: typeof outbox = {
    ...outbox,
    claimDue(claim) {
      claims += 1
      return failures-- > 0 ? Promise.reject(new Error('no table')) : outbox.claimDue(claim)
    },
    delivered(...report) {
      beforeWriting()
      return writingFailures-- > 0 ? Promise.reject(new Error('no pen')) : outbox.delivered(...report)
    },
  }

  const served: OutboxMessage[] = []
  let manners: (Outcome | Send)[] = [drunk]
  const listeners = new Set<object>()
  let beforeCall: ((letter: OutboxMessage) => Promise<void>) | undefined
  const pour: Send = async (letter, signal, onCall) => {
    await beforeCall?.(letter)
    served.push(letter)
    const manner = manners.length > 1 ? manners.shift()! : manners[0]!
    onCall()
    return typeof manner === 'function' ? manner(letter, signal, onCall) : manner
  }
  const worker = createOutboxWorker({
    outbox: unreliable,
    attempts,
    timeout,
    onChange(heard) {
      const stop = table.listen('outbox', heard)
      listeners.add(stop)
      return () => {
        listeners.delete(stop)
        stop()
      }
    },
    clock,
    log,
    audit: createAudit({ clock, log, listeners: [] }),
  })
  t.after(async () => {
    await worker.stop()
    if (on === undefined) await table.close()
  })
  return {
    clock,
    table,
    outbox,
    worker: {
      ...worker,
      start: (senders: Senders = { tea: { send: pour }, milk: { send: async () => drunk } }) => worker.start(senders),
    },
    served,
    logLines,
    claims: () => claims,
    listeners: () => listeners.size,
    serve: (...next: (Outcome | Send)[]) => {
      manners = next
    },
    fail: (times: number) => {
      failures = times
    },
    failWriting: (times: number) => {
      writingFailures = times
    },
    /** From now on, calls the function for each message before the receiver of the message is called. */
    beforeCall: (call: typeof beforeCall) => {
      beforeCall = call
    },
    /** From now on, calls the function before the outcome of a delivery is stored. */
    beforeWriting: (call: () => void) => {
      beforeWriting = call
    },
  }
}

/** Adds a message to the outbox in a step without other effects. @returns the topics that the step announces */
export async function postOne(
  worker: Pick<OutboxWorker, 'enqueue'>,
  table: Database,
  letter: OutboxMessage,
): Promise<string[]> {
  let announced: string[] = []
  await worker.enqueue([letter], async (adding, topics) => {
    announced = topics
    const announce = topics.map((topic) => ({ topic, key: letter.id }))
    return (await table.step({ sql: 'select 1 as one', values: [] }, { also: adding, announce })).length > 0
  })
  return announced
}

export async function postFour(worker: Pick<OutboxWorker, 'enqueue'>, table: Database): Promise<void> {
  for (let number = 0; number < 4; number++) assert.deepEqual(await postOne(worker, table, tea()), [])
}

export const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
