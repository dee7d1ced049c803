import { writeBatch } from '../platform/storage/batch.ts'
import { atMostRows, type Database, type Statement } from '../platform/storage/database.ts'
import type { RowOf } from '../platform/storage/row.ts'
import { few } from '../platform/storage/sql-dialect.ts'
import { type Capacity, initialCapacityOfReceiver } from './concurrency-limits.ts'
import type { Notification, NotificationState, OutboxMessage } from './notification.ts'

/** The column of the receiver is called `lane`. */
type NotificationRow = Omit<RowOf<OutboxMessage>, 'receiver'> & { lane: string }

/** How an attempt went, from whoever took the notification on. */
interface OutboxReport {
  message: OutboxMessage
  state: Exclude<NotificationState, 'sending'>
  outcome: string
  settledAt: number | null
  dueAt: number
}

/** The topic under which it is announced that notifications wait. */
export const OUTBOX = 'outbox'

export type OutboxStore = ReturnType<typeof createOutboxStore>

/** The outbox. What is handed back or retried is announced under the topic `outbox`; what is added, by whoever adds it. */
export const createOutboxStore = (database: Database) => ({
  ...takingOn(database),
  ...reportingOn(database),
  ...lookingAfter(database),
  ...lookingAt(database),
})

/** Adding notifications, and taking them on when they are due. */
function takingOn(database: Database) {
  return {
    /** The statement that adds a notification: it goes into the atomic step of whatever causes it. */
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
     * Takes on what is due, as far as there is room for its kind and its lane: of a lane the oldest first. What another
     * worker took on and did not finish by the end of its lease is due again.
     *
     * @param claim.now, claim.leaseUntil milliseconds since 1970
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
          JSON.stringify(kinds),
          JSON.stringify(receivers.map(({ receiver, ...capacity }) => ({ ...capacity, lane: receiver }))),
          ofOtherKind,
          ofOtherReceiver,
          claim.lease,
          claim.leaseUntil,
        ],
      })
      return rows.map(toMessage).sort((one, other) => (one.id < other.id ? -1 : 1))
    },

    /** When the next notification that is not due at `now` is, or its lease ends; and whether any that is due is left. */
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

/** What became of a notification that was taken on. */
function reportingOn(database: Database) {
  /** Answers whether the lease was still theirs. Content is erased on delivery. */
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
        // Those who report take rows in the same order, so that no two wait for each other.
        rows: rows.sort((one, other) => (one.id < other.id ? -1 : 1)),
      })
      const ids = new Set(changed.map(({ id }) => id))
      return reports.map(({ message }) => ids.has(message.id))
    },
  })

  return {
    /** sending → delivered. The content is erased. Answers whether the lease was still ours. */
    delivered: (message: OutboxMessage, outcome: string, now: number): Promise<boolean> =>
      report({ message, state: 'delivered', outcome, settledAt: now, dueAt: message.dueAt }),

    /** sending → waiting, to be sent again at `dueAt`. */
    reschedule: (message: OutboxMessage, outcome: string, dueAt: number): Promise<boolean> =>
      report({ message, state: 'waiting', outcome, settledAt: null, dueAt }),

    /** sending → parked: kept with the reason until an operator looks at it. */
    park: (message: OutboxMessage, reason: string, now: number): Promise<boolean> =>
      report({ message, state: 'parked', outcome: reason, settledAt: now, dueAt: message.dueAt }),

    /** sending → waiting as if it had never been taken on: the attempt does not count. */
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
     * The statement that replaces the content of a notification, in the atomic step of the caller. Whoever holds the
     * lease: what the step did must not go unsaid because the lease ended meanwhile.
     */
    replaceContent: (id: string, sealed: string): Statement => ({
      sql: `update notifications set sealed = $2 where id = $1 and state <> 'delivered'`,
      values: [id, sealed],
    }),
  }
}

/** What operators do, and what age does. */
function lookingAfter(database: Database) {
  return {
    /** parked → waiting, due at once, with all its attempts. Not once its content has been erased. */
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

    /** Erases what parked notifications still say, once nobody can want to send them any more. */
    async eraseParked(parkedBefore: number): Promise<number> {
      const rows = await database.step({
        sql: `update notifications set sealed = null
              where state = 'parked' and sealed is not null and settled_at < $1 returning id`,
        values: [parkedBefore],
      })
      return rows.length
    },

    /** Removes what was delivered or parked before `before`, at most so many. */
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

    /** For the operator, newest first. */
    async list(state: NotificationState | undefined, limit = 100): Promise<Notification[]> {
      const rows = await database.read<NotificationRow>(
        `select * from notifications where $2 = '' or state = $2 order by created_at desc, id desc limit $1`,
        [limit, state ?? ''],
      )
      return rows.map(withoutContent)
    },

    /** By state. What is delivered is not counted: there may be millions of it, and nobody has to do anything about it. */
    async countUndelivered(): Promise<Record<Exclude<NotificationState, 'delivered'>, number>> {
      const rows = await database.read<{ state: Exclude<NotificationState, 'delivered'>; number: number }>(
        // Each half has the very condition of an index that holds these rows alone.
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
 * Mostly little is due, and all of it is looked at. If it is more than this, somebody has fallen behind, and those whose
 * turn would only come after that are looked for by their lanes.
 */
const manyDue = 512

/** Of each lane the one that is due for longest, or the next after it, … */
const nthOfLanes = (place: number) => `
    select (select id from notifications where state in ('waiting', 'sending') and kind = lanes.kind
      and lane = lanes.lane and due_at <= $1 order by due_at limit 1 offset ${place}) as id
    from ${few('lanes', 'lanes')} where lane is not null`

/**
 * What is due is looked at in the order in which it became so. Where much is, and not enough of a kind among it, the first
 * few of each lane of that kind as well: lane after lane, by the index. Of these, each lane and then each kind gets those
 * for which it has room. They are chosen before they are locked: rows cannot be locked where they are counted.
 */
const claiming = `
  with recursive kind_room as (
    select kind, room from rows($2) as kind_room (kind text, room bigint)
  ), lane_room as (
    select kind, lane, room from rows($3) as lane_room (kind text, lane text, room bigint)
  ), first_due as materialized (
    select id, kind, lane, due_at from notifications where state in ('waiting', 'sending') and due_at <= $1
    order by due_at limit ${manyDue}
  ), first_of_kinds as (
    select fitting.kind as kind, count(*) as number
    from (select kind, lane, row_number() over (partition by kind, lane order by due_at) as place from first_due) as fitting
      left join lane_room on lane_room.kind = fitting.kind and lane_room.lane = fitting.lane
    where place <= coalesce(lane_room.room, cast($5 as bigint))
    group by fitting.kind
  ), lanes (kind, lane) as (
    select kind_room.kind, (select lane from notifications where state in ('waiting', 'sending')
      and kind = kind_room.kind order by lane limit 1)
    from kind_room left join first_of_kinds on first_of_kinds.kind = kind_room.kind
    where room > coalesce(number, 0) and (select count(*) from first_due) = ${manyDue}
    union all
    select kind, (select lane from notifications where state in ('waiting', 'sending') and kind = lanes.kind
      and lane > lanes.lane order by lane limit 1)
    from lanes where lane is not null
  ), first_of_lanes as (
    ${Array.from({ length: initialCapacityOfReceiver }, (_, place) => nthOfLanes(place)).join(' union all ')}
  ), of_lane as (
    select id, kind, lane, due_at, row_number() over (partition by kind, lane order by due_at, id) as place
    from notifications where id in (select id from first_due union select id from first_of_lanes)
  ), of_kind as (
    select id, of_lane.kind as kind, row_number() over (partition by of_lane.kind order by due_at, id) as place
    from of_lane left join lane_room on lane_room.kind = of_lane.kind and lane_room.lane = of_lane.lane
    where place <= coalesce(lane_room.room, cast($5 as bigint))
  ), due as materialized (
    select id from notifications
    where state in ('waiting', 'sending') and due_at <= $1 and id in (
      select id from of_kind left join kind_room on kind_room.kind = of_kind.kind
      where place <= coalesce(kind_room.room, cast($4 as bigint)))
    order by id
    /* for update skip locked */
  )
  update notifications set state = 'sending', lease = $6, due_at = $7, attempts = attempts + 1
  where id in (select id from due) returning *`

const changed = (rows: unknown[]) => rows.length > 0

function toMessage(row: NotificationRow): OutboxMessage {
  return { ...withoutContent(row), sealed: row.sealed ?? undefined, lease: row.lease ?? undefined }
}

function withoutContent(row: NotificationRow): Notification {
  return {
    id: row.id,
    kind: row.kind,
    subject: row.subject,
    receiver: row.lane,
    address: row.address ?? undefined,
    state: row.state,
    createdAt: row.created_at,
    dueAt: row.due_at,
    giveUpAt: row.give_up_at,
    attempts: row.attempts,
    lastOutcome: row.last_outcome ?? undefined,
    settledAt: row.settled_at ?? undefined,
  }
}
