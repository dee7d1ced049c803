import { writeBatch } from '../platform/storage/batch.ts'
import { atMostRows, type Database, type Statement } from '../platform/storage/database.ts'
import { few } from '../platform/storage/sql-dialect.ts'
import { type Capacity, initialCapacityOfReceiver } from './concurrency-limits.ts'
import type { Notification, NotificationState, OutboxMessage } from './notification.ts'
import { type NotificationRow, toMessage, withoutContent } from './notification-row.ts'
import { undeliveredIn } from './undelivered-message-store.ts'

/** The outcome of an attempt, as reported by the worker that claimed the message. */
interface OutboxReport {
  message: OutboxMessage
  state: Exclude<NotificationState, 'sending'>
  outcome: string
  settledAt: number | null
  dueAt: number
}

/** Further statements that are executed in the same transaction, and the lock keys that these statements need. */
export interface Along {
  statements: Statement[]
  lockKeys: string[]
}

/** The topic under which waiting notifications are announced. */
export const OUTBOX = 'outbox'

export type OutboxStore = ReturnType<typeof createOutboxStore>

/**
 * Returns the store of the outbox. When the lease of a message is released, or a parked message is retried, the store
 * announces the message under the topic `outbox`. A new message is announced by the step that adds it.
 */
export const createOutboxStore = (database: Database) => ({
  ...takingOn(database),
  ...reportingOn(database),
  ...lookingAfter(database),
  ...lookingAt(database),
  ...undeliveredIn(database),
})

/** Adds messages, and claims due messages. */
function takingOn(database: Database) {
  return {
    /** Returns the statement that adds a message. The step that causes the message must contain this statement. */
    add: (message: OutboxMessage): Statement => ({
      sql: `insert into notifications (id, kind, subject, lane, address, sealed, state, lease, attempts, created_at, due_at,
              give_up_at)
            select id, kind, subject, lane, address, sealed, state, lease, attempts, created_at, due_at, give_up_at
            from rows($1) as letter (id text, kind text, subject text, lane text, address text, sealed text, state text,
              lease text, attempts bigint, created_at bigint, due_at bigint, give_up_at bigint)`,
      rows: [
        {
          id: message.id,
          kind: message.kind,
          subject: message.subject,
          lane: message.receiver,
          address: message.address,
          sealed: message.sealed,
          state: message.state,
          lease: message.lease,
          attempts: message.attempts,
          created_at: message.createdAt,
          due_at: message.dueAt,
          give_up_at: message.giveUpAt,
        },
      ],
    }),

    /**
     * Claims as many due messages as their kinds and receivers have capacity for. Receivers take turns. Of each
     * receiver, the message that was due first comes first. A message whose lease has ended is due again. `now` and
     * `leaseUntil` are in milliseconds since 1970.
     */
    async claimDue(claim: {
      now: number
      leaseUntil: number
      lease: string
      room: Capacity
    }): Promise<OutboxMessage[]> {
      const { kinds, receivers, ofOtherKind, ofOtherReceiver } = claim.room
      const rows = await database.step<NotificationRow>({
        sql: claiming,
        values: [
          claim.now,
          JSON.stringify(
            kinds.map(({ kind, room, roomOfNew, roomOfSlow }) => {
              return { kind, room, room_of_new: roomOfNew, room_of_slow: roomOfSlow }
            }),
          ),
          JSON.stringify(
            receivers.map(({ kind, receiver, room, underWay, standing }) => {
              return { kind, lane: receiver, room, under_way: underWay, standing }
            }),
          ),
          ofOtherKind,
          ofOtherReceiver,
          claim.lease,
          claim.leaseUntil,
        ],
      })
      return rows.map(toMessage).sort((one, other) => (one.id < other.id ? -1 : 1))
    },

    /**
     * Resolves to two values. `next` is the first time after `now` at which a message becomes due or a lease ends.
     * `isAnyLeft` is true if a message is due at `now`.
     */
    async nextDue(now: number): Promise<{ next: number | undefined; isAnyLeft: boolean }> {
      const [row] = await database.read<{ next: number | null; is_any_left: number }>(
        `select (select min(due_at) from notifications where state in ('waiting', 'sending') and due_at > $1) as next,
           exists (select 1 from notifications where state in ('waiting', 'sending') and due_at <= $1) as is_any_left`,
        [now],
      )
      return { next: row!.next ?? undefined, isAnyLeft: row!.is_any_left === 1 }
    },
  }
}

/** Records the outcomes of claimed messages. */
function reportingOn(database: Database) {
  /**
   * Records outcomes. An outcome is recorded only if the message still has the lease of the attempt. The content of a
   * delivered message is erased. Resolves to whether the outcome was recorded.
   */
  const report = writeBatch<OutboxReport, boolean>({
    conflictKeys: ({ message }) => [message.id],
    async execute(reports) {
      const rows = reports.map(({ message: { id, lease = null }, state, outcome, settledAt, dueAt }) => {
        return { id, lease, state, outcome, settled_at: settledAt, due_at: dueAt }
      })
      const changed = await database.step<{ id: string }>({
        sql: `update notifications set state = report.state, lease = null, last_outcome = report.outcome,
                settled_at = report.settled_at, due_at = report.due_at,
                sealed = case when report.state = 'delivered' then null else sealed end
              from rows($1) as report (id text, lease text, state text, outcome text, settled_at bigint, due_at bigint)
              where notifications.id = report.id and notifications.lease = report.lease
              returning notifications.id as id`,
        // All workers lock rows in the same order, so that no two transactions deadlock.
        rows: rows.sort((one, other) => (one.id < other.id ? -1 : 1)),
      })
      const ids = new Set(changed.map(({ id }) => id))
      return reports.map(({ message }) => ids.has(message.id))
    },
  })

  return {
    /** sending → delivered. The content is erased. Resolves to whether the message still had its lease. */
    delivered: (message: OutboxMessage, outcome: string, now: number): Promise<boolean> =>
      report({ message, state: 'delivered', outcome, settledAt: now, dueAt: message.dueAt }),

    /** sending → waiting. The next attempt is made at `dueAt`. */
    reschedule: (message: OutboxMessage, outcome: string, dueAt: number): Promise<boolean> =>
      report({ message, state: 'waiting', outcome, settledAt: null, dueAt }),

    /**
     * sending → parked. The message is kept with the reason, so that an operator can look at it.
     * @param also further statements of the same transaction, and the lock keys that these statements need
     */
    async park(message: OutboxMessage, reason: string, now: number, also?: Along): Promise<boolean> {
      if (also === undefined) {
        return report({ message, state: 'parked', outcome: reason, settledAt: now, dueAt: message.dueAt })
      }
      const parking = {
        sql: `update notifications set state = 'parked', lease = null, last_outcome = $3, settled_at = $4
              where id = $1 and lease = $2 returning id`,
        values: [message.id, message.lease ?? null, reason, now],
      }
      return changed(await database.step(parking, { also: also.statements, lockKeys: also.lockKeys }))
    },

    /** sending → waiting, as if the message had not been claimed: the attempt is not counted. */
    async releaseLease(message: OutboxMessage, now: number): Promise<boolean> {
      return changed(
        await database.step(
          {
            sql: `update notifications set state = 'waiting', lease = null, due_at = $3, attempts = attempts - 1
                  where id = $1 and lease = $2 returning id`,
            values: [message.id, message.lease ?? null, now],
          },
          { announce: [{ topic: OUTBOX, key: message.id }] },
        ),
      )
    },

    /**
     * Returns the statement that replaces the content of a message, for a transaction of the caller. The statement does
     * not check the lease, because the new content must be stored even if the lease has ended.
     */
    replaceContent: (id: string, sealed: string): Statement => ({
      sql: `update notifications set sealed = $2 where id = $1 and state <> 'delivered'`,
      values: [id, sealed],
    }),
  }
}

/** Functions for operators, and for the removal of old messages. */
function lookingAfter(database: Database) {
  return {
    /**
     * parked → waiting. The message is due at once, and its attempts are counted from zero. Resolves to false if its
     * content has been erased, or if it is not parked.
     */
    async retry(id: string, now: number, giveUpAt: number): Promise<boolean> {
      return changed(
        await database.step(
          {
            sql: `update notifications set state = 'waiting', settled_at = null, attempts = 0, due_at = $2, give_up_at = $3
                  where id = $1 and state = 'parked' and sealed is not null returning id`,
            values: [id, now, giveUpAt],
          },
          { announce: [{ topic: OUTBOX, key: id }] },
        ),
      )
    },

    /**
     * Erases the content of at most `atMost` messages that were parked before `parkedBefore`. These messages cannot be
     * retried any more. Resolves to the number of messages whose content was erased.
     */
    async eraseParked(parkedBefore: number, atMost: number): Promise<number> {
      const rows = await database.step({
        sql: `with old as materialized (
                select id from notifications where state = 'parked' and sealed is not null and settled_at < $1
                order by settled_at ${atMostRows(atMost)} /* for update skip locked */
              )
              update notifications set sealed = null where id in (select id from old) returning id`,
        values: [parkedBefore],
      })
      return rows.length
    },

    /**
     * Removes at most `atMost` messages that were delivered or parked before `before`. Resolves to the number of
     * removed messages.
     */
    async forgetSettled(before: number, atMost: number): Promise<number> {
      const rows = await database.step({
        sql: `with old as materialized (
                select id from notifications where settled_at is not null and settled_at < $1
                order by settled_at ${atMostRows(atMost)} /* for update skip locked */
              )
              delete from notifications where id in (select id from old) returning id`,
        values: [before],
      })
      return rows.length
    },
  }
}

function lookingAt(database: Database) {
  return {
    async find(id: string): Promise<OutboxMessage | undefined> {
      const [row] = await database.read<NotificationRow>('select * from notifications where id = $1', [id])
      return row && toMessage(row)
    },

    /** Resolves to notifications without their content, newest first. */
    async list(state: NotificationState | undefined, limit = 100): Promise<Notification[]> {
      const rows = await database.read<NotificationRow>(
        `select * from notifications where $2 = '' or state = $2 order by created_at desc, id desc limit $1`,
        [limit, state ?? ''],
      )
      return rows.map(withoutContent)
    },

    /**
     * Counts messages by state. Delivered messages are not counted: there may be millions, and they need no attention.
     */
    async countUndelivered(): Promise<Record<Exclude<NotificationState, 'delivered'>, number>> {
      const rows = await database.read<{ state: Exclude<NotificationState, 'delivered'>; number: number }>(
        // Each half of the statement has the condition of a partial index, so that the index is used.
        `select state, count(*) as number from notifications where state in ('waiting', 'sending') group by state
         union all select 'parked', count(*) from notifications where state = 'parked'`,
      )
      const counts = { waiting: 0, sending: 0, parked: 0 }
      for (const { state, number } of rows) counts[state] = number
      return counts
    },
  }
}

/**
 * Upper limit for the due messages that `claiming` considers in the order in which they became due. Usually fewer
 * messages are due. If at least this many are due, all of the first ones may be to a few receivers. So `claiming` then
 * also looks up messages by receiver (the column `lane`).
 */
const manyDue = 512

/**
 * Returns the SQL that selects one message of each lane (receiver): the message at the position `place` in the order of
 * `due_at`, counted from 0.
 */
const nthOfLanes = (place: number) => `
    select (select id from notifications where state in ('waiting', 'sending') and kind = lanes.kind
      and lane = lanes.lane and due_at <= $1 order by due_at limit 1 offset ${place}) as id
    from ${few('lanes', 'lanes')} where lane is not null`

/**
 * Claims due messages. A lane contains the messages of one kind to one receiver. The statement considers the first
 * `manyDue` messages, in the order in which they became due. If `manyDue` or more messages are due, the statement also
 * considers:
 * - the first few messages of each lane in `lane_room` that has capacity
 * - the first few messages of each lane of a kind, if the first `manyDue` messages contain fewer messages to new
 *   receivers than this kind has capacity for. The statement finds these lanes one after the other through the index
 *
 * From these messages, the statement selects in three stages. First, it takes from each lane as many messages as the
 * lane has capacity for. Of these, it takes for each standing as many as the kind has capacity for with this standing.
 * Of these, it takes as many as the whole kind has capacity for. The last two stages prefer messages with a low `turn`:
 * the position of the message in its lane, plus the number of the lane's messages that are being sent. So a lane with
 * many waiting messages does not take the slots of other lanes.
 *
 * Rows are selected before they are locked, because Postgres cannot lock rows in a query with window functions. The
 * selections are materialized, because Postgres might otherwise compute a selection again for each row of the next
 * selection.
 */
const claiming = `
  with recursive kind_room as (
    select kind, room, room_of_new, room_of_slow
    from rows($2) as kind_room (kind text, room bigint, room_of_new bigint, room_of_slow bigint)
  ), lane_room as (
    select kind, lane, room, under_way, standing
    from rows($3) as lane_room (kind text, lane text, room bigint, under_way bigint, standing text)
  ), first_due as materialized (
    select id, kind, lane, due_at from notifications where state in ('waiting', 'sending') and due_at <= $1
    order by due_at limit ${manyDue}
  ), new_of_kinds as (
    select earliest.kind as kind, count(*) as number
    from (select kind, lane, row_number() over (partition by kind, lane order by due_at) as place from first_due) as earliest
      left join lane_room on lane_room.kind = earliest.kind and lane_room.lane = earliest.lane
    where place <= coalesce(lane_room.room, cast($5 as bigint)) and coalesce(standing, 'new') = 'new'
    group by earliest.kind
  ), found_lanes (kind, lane) as (
    select kind_room.kind, (select lane from notifications where state in ('waiting', 'sending')
      and kind = kind_room.kind order by lane limit 1)
    from kind_room left join new_of_kinds on new_of_kinds.kind = kind_room.kind
    where room > coalesce(number, 0) and room_of_new > coalesce(number, 0)
      and (select count(*) from first_due) = ${manyDue}
    union all
    select kind, (select lane from notifications where state in ('waiting', 'sending') and kind = found_lanes.kind
      and lane > found_lanes.lane order by lane limit 1)
    from found_lanes where lane is not null
  ), lanes as (
    select kind, lane from found_lanes
    union
    select kind, lane from lane_room where room > 0 and (select count(*) from first_due) = ${manyDue}
  ), first_of_lanes as (
    ${Array.from({ length: initialCapacityOfReceiver }, (_, place) => nthOfLanes(place)).join(' union all ')}
  ), of_lane as materialized (
    select id, kind, lane, due_at, row_number() over (partition by kind, lane order by due_at, id) as place
    from notifications where id in (select id from first_due union select id from first_of_lanes)
  ), in_turn as (
    select id, of_lane.kind as kind, due_at, coalesce(standing, 'new') as standing, place + coalesce(under_way, 0) as turn
    from of_lane left join lane_room on lane_room.kind = of_lane.kind and lane_room.lane = of_lane.lane
    where place <= coalesce(lane_room.room, cast($5 as bigint))
  ), of_standing as materialized (
    select id, kind, due_at, standing, turn,
      row_number() over (partition by kind, standing order by turn, due_at, id) as place
    from in_turn
  ), of_kind as materialized (
    select id, of_standing.kind as kind, room,
      row_number() over (partition by of_standing.kind order by turn, due_at, id) as place
    from of_standing left join kind_room on kind_room.kind = of_standing.kind
    where place <= coalesce(case standing when 'slow' then room_of_slow when 'new' then room_of_new else room end,
      cast($4 as bigint))
  ), due as materialized (
    select id from notifications
    where state in ('waiting', 'sending') and due_at <= $1 and id in (
      select id from of_kind where place <= coalesce(room, cast($4 as bigint)))
    order by id
    /* for update skip locked */
  )
  update notifications set state = 'sending', lease = $6, due_at = $7, attempts = attempts + 1
  where id in (select id from due) returning *`

const changed = (rows: unknown[]) => rows.length > 0
