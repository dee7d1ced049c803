/** Performs the actions of the operator's commands while a server runs. They use their own database connection. */

import { randomUUID } from 'node:crypto'
import { createClientStore } from '../../src/client/client-store.ts'
import { endClient } from '../../src/endings/end-client.ts'
import { createEndUser, type EndUser } from '../../src/endings/end-user.ts'
import { type AuditEvent, createAudit } from '../../src/platform/audit.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { createPasswordHashing, passwordOf } from '../../src/user/password/password-hashing.ts'
import { scryptHere } from '../../src/user/password/scrypt.ts'
import { createUserStore, type KnownUser } from '../../src/user/user-store.ts'
import { cheapCost, type Stage } from './stage.ts'
import { inTime } from './until.ts'

export const dora = { id: 'user-dora', username: 'dora', email: 'dora@example.com', name: 'Dora', password: 'of dora' }

export interface Commands {
  database: Database
  endUser: EndUser
  /** The recorded audit events. */
  events: AuditEvent[]
  addDora(more?: { isSamePerson?: boolean }): Promise<boolean>
  unlock(id: string): Promise<boolean>
  setPassword(id: string, password: string): Promise<boolean>
  removeClient(id: string): Promise<boolean>
}

/**
 * Runs `work`. Resolves when it is done and, on Postgres, the running server has received the notifications of its
 * changes. On SQLite there are no notifications: the server itself checks whether another process has written.
 */
export async function byCommand<Result>(stage: Stage, work: (commands: Commands) => Promise<Result>): Promise<Result> {
  const log = createLog('silent')
  const database = await openDatabase(stage.database, { log, clock: systemClock })
  const { clock } = stage
  const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
  const hashing = createPasswordHashing({ vault, scrypt: scryptHere, cost: cheapCost })
  const users = createUserStore(database)
  const events: AuditEvent[] = []
  const audit = createAudit({ clock, log, listeners: [(event) => void events.push(event)] })
  const endUser = createEndUser({ database, vault, clock, log, audit })
  try {
    const result = await work({
      database,
      endUser,
      events,
      async addDora(more = {}) {
        const { password, ...rest } = dora
        const user: KnownUser = { ...rest, passwordHash: await hashing.hash(password, passwordOf(dora.id)) }
        return users.add(user, clock.now(), more)
      },
      unlock: (id) => users.unlock(id, clock.now()),
      async setPassword(id, password) {
        const also = [users.settingPassword(id, await hashing.hash(password, passwordOf(id)))]
        return endUser(id, 'signed_out', { mustBe: 'added', by: 'command', also })
      },
      removeClient: (id) => createClientStore(database).remove(id, endClient(id, clock.now())),
    })
    if (database.engine === 'postgres') await notified(stage.serverDatabase, database)
    return result
  } finally {
    await database.close()
  }
}

/**
 * Sends one more notification, and waits until the server has received it. Then the server has received all earlier
 * notifications too, because Postgres delivers them in the order of the commits.
 */
async function notified(server: Database, { step }: Database): Promise<void> {
  const received = Promise.withResolvers<void>()
  const key = randomUUID()
  const stop = server.listen('test', (other) => {
    if (other === key) received.resolve()
  })
  try {
    await step({ sql: 'select 1 as sent', values: [] }, { announce: [{ topic: 'test', key }] })
    await inTime(received.promise, () => 'the notification of a command')
  } finally {
    stop()
  }
}
