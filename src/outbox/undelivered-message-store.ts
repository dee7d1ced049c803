/** Finds and changes messages that were not delivered. */
import { atMostRows, type Database, type Statement } from '../platform/storage/database.ts'
import { mostAheadMs } from '../platform/storage/stored-period.ts'
import { longestRetryAfterMs, type OutboxMessage } from './notification.ts'
import { type NotificationRow, toMessage } from './notification-row.ts'

export interface PauseLimits {
  now: number
  longestLeaseMs: number
}

/** Returns the functions that find and change messages that were not delivered. */
export function undeliveredIn(database: Database) {
  return {
    /** Resolves to the notifications about a subject that were not delivered and still have their content. */
    async undeliveredAbout(subject: string): Promise<OutboxMessage[]> {
      const rows = await database.read<NotificationRow>(
        `select * from notifications where subject = $1 and state <> 'delivered' and sealed is not null`,
        [subject],
      )
      return rows.map(toMessage)
    },

    /** Replaces the content of a message. Resolves to false if the content was changed since the message was read. */
    async exchangeContent({ id, sealed }: Pick<OutboxMessage, 'id' | 'sealed'>, next: string): Promise<boolean> {
      return changed(
        await database.step({
          sql: 'update notifications set sealed = $3 where id = $1 and sealed = $2 returning id',
          values: [id, sealed ?? null, next],
        }),
      )
    },

    /**
     * Returns the statement that settles a message as delivered although it was not sent, because it is no longer
     * needed. If an attempt is in progress, it loses its lease.
     */
    supersede: (id: string, reason: string, now: number): Statement => ({
      sql: `update notifications set state = 'delivered', lease = null, sealed = null, last_outcome = $2, settled_at = $3
            where id = $1 and state <> 'delivered'`,
      values: [id, reason, now],
    }),

    /** Changes the kind and the address of a message, because the client has changed its delivery mode or endpoint. */
    async readdress({ id, kind, address }: Pick<OutboxMessage, 'id' | 'kind' | 'address'>): Promise<void> {
      await database.step({
        sql: 'update notifications set kind = $2, address = $3 where id = $1 returning id',
        values: [id, kind, address ?? null],
      })
    },

    /**
     * Sets `due_at` to `now` for at most `atMost` waiting messages that would be due later. Resolves to the number of
     * changed messages.
     */
    async endPauses(now: number, atMost: number): Promise<number> {
      // The condition contains both states, like the condition of the partial index on `due_at`, so that the index is
      // used.
      const rows = await database.step({
        sql: `with paused as materialized (
                select id from notifications where state in ('waiting', 'sending') and state = 'waiting' and due_at > $1
                order by due_at ${atMostRows(atMost)} /* for update skip locked */
              )
              update notifications set due_at = $1 where id in (select id from paused) returning id`,
        values: [now],
      })
      return rows.length
    },

    /**
     * Sets `due_at` to `now` for at most `atMost` messages whose times were written by a clock that was ahead. In such
     * a message, `created_at` is in the future, or `due_at` is later than the longest pause or lease permits.
     * Resolves to the number of changed messages.
     *
     * @param longestLeaseMs the longest lease, in milliseconds
     */
    async endPausesOfClockAhead({ now, longestLeaseMs }: PauseLimits, atMost: number): Promise<number> {
      const future = `cast($1 as bigint) + ${mostAheadMs}`
      const rows = await database.step({
        sql: `with ahead as materialized (
                select id from notifications where state in ('waiting', 'sending') and due_at > ${future}
                and (created_at > ${future}
                  or due_at > ${future} + case when state = 'sending' then cast($2 as bigint) else ${longestRetryAfterMs} end)
                order by due_at ${atMostRows(atMost)} /* for update skip locked */
              )
              update notifications set due_at = $1 where id in (select id from ahead) returning id`,
        values: [now, longestLeaseMs],
      })
      return rows.length
    },

    /**
     * Resolves to messages of these kinds that were parked before `before` and still have their content, oldest first.
     */
    async parkedWithContent(kinds: string[], before: number, atMost: number): Promise<OutboxMessage[]> {
      const rows = await database.read<NotificationRow>(
        `select * from notifications where state = 'parked' and sealed is not null and settled_at < $1
           and kind in (select value from each($2)) order by settled_at ${atMostRows(atMost)}`,
        [before, JSON.stringify(kinds)],
      )
      return rows.map(toMessage)
    },

    /**
     * Erases the content of a message if it is still parked and its content was not changed. Executes `statements` in
     * the same transaction. Resolves to whether the content was erased.
     */
    async erase({ id, sealed }: OutboxMessage, statements: Statement[], lockKeys: string[]): Promise<boolean> {
      const erasing = {
        sql: `update notifications set sealed = null where id = $1 and state = 'parked' and sealed = $2 returning id`,
        values: [id, sealed ?? null],
      }
      return changed(await database.step(erasing, { also: statements, lockKeys }))
    },
  }
}

const changed = (rows: unknown[]) => rows.length > 0
