import type { Database, Statement } from '../storage/database.ts'
import type { Letter, Notification, NotificationState } from './notification.ts'

interface NotificationRow {
  id: string
  kind: string
  subject: string
  lane: string
  address: string | null
  sealed: string | null
  state: NotificationState
  created_at: number
  due_at: number
  give_up_at: number
  attempts: number
  lease: string | null
  last_outcome: string | null
  settled_at: number | null
}

export type OutboxStore = ReturnType<typeof createOutboxStore>

/** The outbox. New and retried notifications are announced under the topic `outbox`. */
export function createOutboxStore(database: Database) {
  return {
    /** The statement that adds a notification: it goes into the atomic step of whatever causes it. */
    add: (letter: Letter): Statement => ({
      sql: `insert into notifications (id, kind, subject, lane, address, sealed, state, created_at, due_at, give_up_at)
            select id, kind, subject, lane, address, sealed, 'waiting', created_at, due_at, give_up_at
            from rows($1) as letter (id text, kind text, subject text, lane text, address text, sealed text,
              created_at bigint, due_at bigint, give_up_at bigint)`,
      rows: [
        {
          id: letter.id,
          kind: letter.kind,
          subject: letter.subject,
          lane: letter.lane,
          address: letter.address ?? null,
          sealed: letter.sealed ?? null,
          created_at: letter.createdAt,
          due_at: letter.dueAt,
          give_up_at: letter.giveUpAt,
        },
      ],
    }),

    /**
     * Takes on what is due, so that at most `perLane` of a lane are under way. `busyLanes` names a lane once for each
     * that is under way already. What another worker took on and did not finish by the end of its lease is due again.
     *
     * @param leaseUntil milliseconds since 1970
     */
    async claimDue(claim: {
      now: number
      leaseUntil: number
      lease: string
      limit: number
      perLane: number
      busyLanes: string[]
    }): Promise<Letter[]> {
      const rows = await database.step<NotificationRow>({
        // The places in a lane are counted first: rows cannot be locked where they are counted.
        sql: `with busy as (
                select value as lane, count(*) as already from each($2) group by value
              ), ranked as (
                select id, due_at, coalesce(already, 0)
                  + row_number() over (partition by notifications.lane order by due_at, id) as place
                from notifications left join busy on busy.lane = notifications.lane
                where state in ('waiting', 'sending') and due_at <= $1
              ), due as materialized (
                select id from notifications
                where state in ('waiting', 'sending') and due_at <= $1
                  and id in (select id from ranked where place <= $3 order by due_at, id limit $4)
                /* for update skip locked */
              )
              update notifications set state = 'sending', lease = $5, due_at = $6, attempts = attempts + 1
              where id in (select id from due) returning *`,
        values: [claim.now, JSON.stringify(claim.busyLanes), claim.perLane, claim.limit, claim.lease, claim.leaseUntil],
      })
      return rows.map(toLetter).sort((one, other) => (one.id < other.id ? -1 : 1))
    },

    /** When the next notification is due, or its lease ends. Lanes in `fullLanes` do not count. */
    async nextDue(fullLanes: string[]): Promise<number | undefined> {
      const [row] = await database.read<{ due_at: number | null }>(
        `select min(due_at) as due_at from notifications
         where state in ('waiting', 'sending') and lane not in (select value from each($1))`,
        [JSON.stringify(fullLanes)],
      )
      return row?.due_at ?? undefined
    },

    /** sending → delivered. The content is erased. Answers whether the lease was still ours. */
    async delivered(letter: Letter, outcome: string, now: number): Promise<boolean> {
      return changed(
        await database.step({
          sql: `update notifications set state = 'delivered', lease = null, sealed = null, last_outcome = $3, settled_at = $4
                where id = $1 and lease = $2 returning id`,
          values: [letter.id, letter.lease ?? null, outcome, now],
        }),
      )
    },

    /** sending → waiting, to be sent again at `dueAt`. */
    async putBack(letter: Letter, outcome: string, dueAt: number): Promise<boolean> {
      return changed(
        await database.step({
          sql: `update notifications set state = 'waiting', lease = null, last_outcome = $3, due_at = $4
                where id = $1 and lease = $2 returning id`,
          values: [letter.id, letter.lease ?? null, outcome, dueAt],
        }),
      )
    },

    /** sending → waiting as if it had never been taken on: the attempt does not count. */
    async handBack(letter: Letter, now: number): Promise<boolean> {
      return changed(
        await database.step(
          {
            sql: `update notifications set state = 'waiting', lease = null, due_at = $3, attempts = attempts - 1
                  where id = $1 and lease = $2 returning id`,
            values: [letter.id, letter.lease ?? null, now],
          },
          { announce: [{ topic: 'outbox', key: letter.id }] },
        ),
      )
    },

    /** sending → parked: kept with the reason until an operator looks at it. */
    async park(letter: Letter, reason: string, now: number): Promise<boolean> {
      return changed(
        await database.step({
          sql: `update notifications set state = 'parked', lease = null, last_outcome = $3, settled_at = $4
                where id = $1 and lease = $2 returning id`,
          values: [letter.id, letter.lease ?? null, reason, now],
        }),
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

    /** parked → waiting, due at once, with all its attempts. Not once its content has been erased. */
    async retry(id: string, now: number, giveUpAt: number): Promise<boolean> {
      return changed(
        await database.step(
          {
            sql: `update notifications set state = 'waiting', settled_at = null, attempts = 0, due_at = $2, give_up_at = $3
                  where id = $1 and state = 'parked' and sealed is not null returning id`,
            values: [id, now, giveUpAt],
          },
          { announce: [{ topic: 'outbox', key: id }] },
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
                order by settled_at limit $2 /* for update skip locked */
              )
              delete from notifications where id in (select id from old) returning id`,
        values: [before, atMost],
      })
      return rows.length
    },

    /** What still waits in a lane is not sent any more: for a receiver that is gone. */
    parkLane: (lane: string, kinds: readonly string[], reason: string, now: number): Statement => ({
      sql: `update notifications set state = 'parked', lease = null, sealed = null, last_outcome = $3, settled_at = $4
            where lane = $1 and kind in (select value from each($2)) and state in ('waiting', 'sending')`,
      values: [lane, JSON.stringify(kinds), reason, now],
    }),

    async find(id: string): Promise<Letter | undefined> {
      const [row] = await database.read<NotificationRow>('select * from notifications where id = $1', [id])
      return row && toLetter(row)
    },

    /** For the operator, newest first. */
    async list(state: NotificationState | undefined, limit = 100): Promise<Notification[]> {
      const rows = await database.read<NotificationRow>(
        `select * from notifications where $2 = '' or state = $2 order by created_at desc, id desc limit $1`,
        [limit, state ?? ''],
      )
      return rows.map(withoutContent)
    },

    async count(): Promise<Record<NotificationState, number>> {
      const rows = await database.read<{ state: NotificationState; number: number }>(
        'select state, count(*) as number from notifications group by state',
      )
      const counts = { waiting: 0, sending: 0, delivered: 0, parked: 0 }
      for (const { state, number } of rows) counts[state] = number
      return counts
    },
  }
}

const changed = (rows: unknown[]) => rows.length > 0

function toLetter(row: NotificationRow): Letter {
  return { ...withoutContent(row), sealed: row.sealed ?? undefined, lease: row.lease ?? undefined }
}

function withoutContent(row: NotificationRow): Notification {
  return {
    id: row.id,
    kind: row.kind,
    subject: row.subject,
    lane: row.lane,
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
