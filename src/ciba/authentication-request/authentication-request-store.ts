import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import type { DeliveryMode } from '../../client/metadata/client-metadata.ts'
import { fingerprint, idsBefore } from '../../platform/crypto.ts'
import { together } from '../../platform/storage/batch.ts'
import { walk } from '../../platform/storage/cursor-prune.ts'
import {
  atMostRows,
  type Change,
  type Database,
  joined,
  type Statement,
  type Value,
} from '../../platform/storage/database.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { AuthenticationRequest, Status } from './authentication-request.ts'
import {
  acceptedWithin,
  limitColumns,
  limitRow,
  lookingForObstacle,
  type ObstacleRow,
  orderKey,
  type ReachedLimit,
  type RequestLimits,
  weightiest,
} from './request-limit-store.ts'
import { USER_REQUESTS } from './user-announcement.ts'

export interface RequestRow {
  id: string
  auth_req_id_hash: string
  client_id: string
  user_id: string
  scope: string
  acr_values: string | null
  binding_message: string | null
  delivery_mode: DeliveryMode
  notification_endpoint: string | null
  call_back_sealed: string | null
  status: Status
  created_at: number
  expires_at: number
  interval_seconds: number
  last_polled_at: number | null
  slowed_at: number | null
  acr: string | null
  amr: string | null
  auth_time: number | null
  settled_at: number | null
  certificate_thumbprint: string | null
  dpop_key: string | null
  authorization_details: string | null
  approved_details: string | null
  resources: string | null
}

/** A poll, accounted for: the request as it is now, and whether this poll came too early. */
export interface Poll {
  request: AuthenticationRequest
  tooEarly: boolean
}

/** A request, and when the table has it polled last; milliseconds since 1970, 0 for never. */
export interface PolledRequest {
  request: AuthenticationRequest
  lastPolledAt: number
}

/** What happened to a poll's clock that is not in the table yet. */
export interface UnwrittenPolls {
  /** Milliseconds since 1970; 0 for none. */
  lastPolledAt: number
  /** Seconds that the interval has grown by. */
  growth: number
}

export interface KeptPoll extends UnwrittenPolls {
  authReqIdHash: string
}

export type SettledStatus = 'approved' | 'denied' | 'expired'

export interface Settlement {
  /** The user who answers: the row is only touched if the request is about that user. */
  userId: string
  outcome: 'approved' | 'denied'
  /** Id of the history row that says who and how. */
  settledBy: string
  now: number
  authentication: Authentication
  /** What of the details was approved. */
  approvedDetails?: AuthorizationDetail[] | undefined
}

export type RequestStore = ReturnType<typeof createRequestStore>

/** A request that a statement has moved. Its user is only told where what waits for the user has changed. */
interface MovedRow {
  id: string
  user_id?: string
}

/** One request's move from one state to the next, with what goes with it. */
interface Move {
  id: string
  /** What the statement that decides is told of it, `id` included. */
  row: Record<string, Value | undefined>
  also: Statement[]
  /** Other topics than `request` under which it is announced. */
  announce: string[]
  /** What other moves must not be under way for at the same moment, on any node. */
  alone?: string[]
}

/** How a move is announced. */
export const announced = (id: string): Change[] => [{ topic: 'request', key: id }]

/**
 * The authentication requests. Each move is one conditional statement: of two that happen at once, one finds its
 * condition gone. Moves are announced under the topic `request`, and by user under `user_requests` where something else
 * waits for the user from then on. Moves of the same kind that come together are carried out together.
 *
 * @param userKey under which key a user's changes are announced; not needed by who only reads
 */
export function createRequestStore(database: Database, userKey: (userId: string) => string = fingerprint) {
  /** @param sql over rows, returns a `MovedRow` for each request that was moved. @returns whether this one was */
  function moves(sql: string): (move: Move) => Promise<boolean> {
    return together<Move, boolean>({
      apart: ({ id, alone = [] }) => [id, ...alone],
      async carryOut(all) {
        const those = (moved: MovedRow[]) => {
          const ids = new Set(moved.map(({ id }) => id))
          return all.filter(({ id }) => ids.has(id))
        }
        const moved = await database.step<MovedRow>(
          // Everybody takes rows in the same order, so that no two wait for each other.
          { sql, rows: all.map(({ row }) => row).sort((one, other) => (one.id! < other.id! ? -1 : 1)) },
          {
            also: (moved) => joined(those(moved).flatMap(({ also }) => also)),
            announce: (moved) => [...those(moved).flatMap(changesOf), ...changesByUser(moved)],
            alone: all.flatMap(({ alone = [] }) => alone),
          },
        )
        const ids = new Set(moved.map(({ id }) => id))
        return all.map(({ id }) => ids.has(id))
      },
    })
  }

  const changesOf = ({ id, announce }: Move): Change[] => [
    ...announced(id),
    ...announce.map((topic) => ({ topic, key: id })),
  ]

  /** One for each user, however many of their requests were moved. */
  const changesByUser = (moved: MovedRow[]): Change[] =>
    [...new Set(moved.flatMap(({ user_id }) => user_id ?? []))].map((id) => ({
      topic: USER_REQUESTS,
      key: userKey(id),
    }))

  /** Rows that are looked for at the same moment are found by one statement. @param column which has a unique index */
  function finds(column: 'id' | 'auth_req_id_hash'): (value: string) => Promise<RequestRow | undefined> {
    const sql = `select * from backchannel_auth_requests where ${column} in (select value from each($1))`
    return together<string, RequestRow | undefined>({
      async carryOut(values) {
        const rows = await database.read<RequestRow>(sql, [JSON.stringify([...new Set(values)])])
        const found = new Map(rows.map((row) => [row[column], row]))
        return values.map((value) => found.get(value))
      },
    })
  }

  const findById = finds('id')
  const findByHash = finds('auth_req_id_hash')
  const settle = moves(settling)
  const expire = moves(expiring)
  const redeem = moves(redeeming)

  /** Limits of the same orders of magnitude share a text, and so do their requests. There are as many as are configured. */
  const keepers = new Map<string, ReturnType<typeof moves>>()
  function keepWithin(limits: RequestLimits): ReturnType<typeof moves> {
    const key = orderKey(limits)
    const known = keepers.get(key)
    if (known !== undefined) return known
    const keep = moves(acceptingWithin(limits))
    keepers.set(key, keep)
    return keep
  }

  return {
    /**
     * Keeps a new request, with what must happen next. Not beyond a limit, nor if the user has blocked the client or
     * has just denied it something, nor if the user was locked or removed since it was looked whom the request is about:
     * all of it is counted and looked up in the statement that accepts.
     * @returns whether it was kept
     */
    accept: (
      request: AuthenticationRequest,
      authReqId: string,
      limits: RequestLimits,
      also: Statement[],
      announce: string[],
    ): Promise<boolean> =>
      keepWithin(limits)({
        id: request.id,
        row: {
          id: request.id,
          auth_req_id_hash: fingerprint(authReqId),
          client_id: request.clientId,
          user_id: request.userId,
          scope: request.scope,
          acr_values: request.acrValues,
          binding_message: request.bindingMessage,
          delivery_mode: request.deliveryMode,
          notification_endpoint: request.notificationEndpoint,
          call_back_sealed: request.callBackSealed,
          created_at: request.createdAt,
          expires_at: request.expiresAt,
          interval_seconds: request.interval,
          certificate_thumbprint: request.binding.certificate,
          dpop_key: request.binding.dpopKey,
          authorization_details: jsonOf(request.authorizationDetails),
          resources: jsonOf(request.resources),
          ...limitRow(limits),
        },
        also,
        announce,
        // Of two that count at once, neither would count the other.
        alone: [`requests of ${request.userId}`, ...(limits.perClient ? [`requests by ${request.clientId}`] : [])],
      }),

    /** What stands in the way of a request that was not accepted, to be explained; nothing if it is gone meanwhile. */
    async obstacleTo(
      about: Pick<AuthenticationRequest, 'userId' | 'clientId'>,
      limits: RequestLimits,
      now: number,
    ): Promise<ReachedLimit | undefined> {
      const { sql, values } = lookingForObstacle(about, limits, now)
      const [row] = await database.read<ObstacleRow>(sql, values)
      return weightiest(row!, limits)
    },

    /** How many wait for their users. */
    async countOpen(now: number): Promise<number> {
      const [row] = await database.read<{ number: number }>(
        `select count(*) as number from backchannel_auth_requests where status in ('pending', 'approved') and status = 'pending' and redeemed_at is null and expires_at > $1`,
        [now],
      )
      return row!.number
    },

    async find(id: string): Promise<AuthenticationRequest | undefined> {
      const row = await findById(id)
      return row && toRequest(row)
    },

    /** Of these ids, those of pending requests. */
    async stillPending(ids: string[]): Promise<Set<string>> {
      const rows = await database.read<{ id: string }>(
        `select id from backchannel_auth_requests where ${its('status')} = 'pending' and id in (select value from each($1))`,
        [JSON.stringify(ids)],
      )
      return new Set(rows.map(({ id }) => id))
    },

    async findByAuthReqId(authReqId: string): Promise<AuthenticationRequest | undefined> {
      const row = await findByHash(fingerprint(authReqId))
      return row && toRequest(row)
    },

    /** For a poll that is accounted for elsewhere: the request, if it is this client's, and when it was last polled. */
    async findPolled(authReqIdHash: string, clientId: string): Promise<PolledRequest | undefined> {
      const row = await findByHash(authReqIdHash)
      if (row?.client_id !== clientId) return undefined
      return { request: toRequest(row), lastPolledAt: row.last_polled_at ?? 0 }
    },

    /** The requests about a user, newest first. @param only `open` leaves out what is settled or has run out */
    async listForUser(
      userId: string,
      only: 'open' | 'all',
      now: number,
      limit = 100,
    ): Promise<AuthenticationRequest[]> {
      const condition = only === 'open' ? `and status = 'pending' and expires_at > $2` : 'and created_at <= $2'
      const rows = await database.read<RequestRow>(
        `select * from backchannel_auth_requests where user_id = $1 ${condition}
         order by created_at desc, id desc ${atMostRows(limit)}`,
        [userId, now],
      )
      return rows.map(toRequest)
    },

    /** For the operator: the newest requests, whoever they are about. Ids grow with time, and have an index. */
    async list(only: 'open' | 'all', now: number, limit = 100): Promise<AuthenticationRequest[]> {
      const condition =
        only === 'open'
          ? `status in ('pending', 'approved') and status = 'pending' and redeemed_at is null and expires_at > $1 order by created_at desc, id desc`
          : 'created_at <= $1 order by id desc'
      const rows = await database.read<RequestRow>(
        `select * from backchannel_auth_requests where ${condition} ${atMostRows(limit)}`,
        [now],
      )
      return rows.map(toRequest)
    },

    /**
     * Accounts for a poll by the client the request belongs to, and raises the interval by five seconds if a pending
     * request is polled too early (TE-1). The first poll is never too early (TK-18). One statement: of two polls at
     * once the second sees the first (M45). Somebody else's request is like none, and is not touched (TE-2, TE-9).
     *
     * @param arrivedAt when the poll arrived, not when it is answered (TK-4)
     * @param unwritten what was accounted for elsewhere and is written with it
     */
    async poll(
      authReqId: string,
      clientId: string,
      arrivedAt: number,
      unwritten: UnwrittenPolls = { lastPolledAt: 0, growth: 0 },
    ): Promise<Poll | undefined> {
      const [row] = await database.step<RequestRow>({
        sql: `update backchannel_auth_requests set
                interval_seconds = ${grown} + case when ${early} then 5 else 0 end,
                slowed_at = case when ${early} then $3 else slowed_at end,
                last_polled_at = $3
              where auth_req_id_hash = $1 and client_id = $2 returning *`,
        values: [fingerprint(authReqId), clientId, arrivedAt, unwritten.lastPolledAt, unwritten.growth],
      })
      return row && { request: toRequest(row), tooEarly: row.slowed_at === arrivedAt }
    },

    /** Writes down polls that were accounted for elsewhere. @returns the intervals as they are now, in seconds */
    async keepPolls(polls: KeptPoll[]): Promise<Map<string, number>> {
      // Fields of fixed width: both engines have lists of texts, but not of more than that.
      const texts = polls.map(
        ({ authReqIdHash, lastPolledAt, growth }) =>
          authReqIdHash.padEnd(43) + String(lastPolledAt).padStart(15, '0') + growth,
      )
      const rows = await database.step<{ hash: string; interval: number }>({
        sql: `update backchannel_auth_requests set
                interval_seconds = interval_seconds + cast(substr(each.value, 59) as bigint),
                last_polled_at = case when last_polled_at > ${lastPoll} then last_polled_at else ${lastPoll} end
              from each($1)
              where auth_req_id_hash = substr(each.value, 1, 43) and ${its('status')} = 'pending'
              returning auth_req_id_hash as hash, interval_seconds as interval`,
        values: [JSON.stringify(texts)],
      })
      return new Map(rows.map(({ hash, interval }) => [hash, interval]))
    },

    /**
     * pending → approved or denied, before the deadline. `also` hands the call back on; only an approval that is to
     * be pushed keeps it, in case it runs out before it could be handed over.
     */
    settle(id: string, settlement: Settlement, also: Statement[], announce: string[]): Promise<boolean> {
      const { acr, amr, authTime } = settlement.authentication
      const row = {
        id,
        about_user: settlement.userId,
        outcome: settlement.outcome,
        decision: settlement.settledBy,
        at: settlement.now,
        acr: acr,
        amr: jsonOf(amr),
        auth_time: authTime,
        approved_details: jsonOf(settlement.approvedDetails),
      }
      return settle({ id, row, also, announce })
    },

    /**
     * pending or approved → expired, once the deadline has passed. What follows depends on which of the two it was, so it
     * must be as it was read.
     */
    expire: (
      { id, status }: Pick<AuthenticationRequest, 'id' | 'status'>,
      settledBy: string,
      now: number,
      also: Statement[],
      announce: string[],
    ): Promise<boolean> => expire({ id, row: { id, was: status, decision: settledBy, at: now }, also, announce }),

    /** approved → redeemed, before the deadline, together with the tokens in `also`: all of it, or none. */
    redeem: (id: string, now: number, also: Statement[]): Promise<boolean> =>
      redeem({ id, row: { id, at: now }, also, announce: [] }),

    /** Requests whose time is over and whose row does not say so yet, the oldest deadline first. */
    async runOut(now: number, limit: number): Promise<AuthenticationRequest[]> {
      const rows = await database.read<RequestRow>(
        `select * from backchannel_auth_requests
         where status in ('pending', 'approved') and redeemed_at is null and expires_at <= $1 order by expires_at ${atMostRows(limit)}`,
        [now],
      )
      return rows.map(toRequest)
    },

    /**
     * Removes what was finished before `before`, at most so many. A request stays as long as something lives that came
     * out of it: it says whose that is, to take it back. Ids grow with time, so nothing younger is even looked at.
     */
    forgetFinished: walk({
      async next(after, before, atMost) {
        const rows = await database.read<{ id: string }>(
          `select id from backchannel_auth_requests
           where id > $1 and id < $2 and status in ('denied', 'expired', 'redeemed') and settled_at < $3
           order by id ${atMostRows(atMost)}`,
          [after, idsBefore(before), before],
        )
        return rows.map(({ id }) => id)
      },
      async remove(ids) {
        const rows = await database.step({
          sql: `with old as materialized (
                  select id from backchannel_auth_requests request
                  where id in (select value from each($1)) and not exists (
                      select 1 from oidc_models issuing join oidc_models issued on issued.grant_hash = issuing.id_hash
                      where issuing.request_id = request.id)
                  order by id /* for update skip locked */
                )
                delete from backchannel_auth_requests where id in (select id from old) returning id`,
          values: [JSON.stringify(ids)],
        })
        return rows.length
      },
    }),
  }
}

/**
 * A column of a request that is found by its id: no index goes by it. Where Postgres believes that few requests are open, as
 * it does until it has counted again, it would rather go through all that are, for each that is looked for.
 */
const its = (column: string) => `${column} || ''`

const acceptingWithin = (limits: RequestLimits) => `
  insert into backchannel_auth_requests (id, auth_req_id_hash, client_id, user_id, scope, acr_values, binding_message,
    delivery_mode, notification_endpoint, call_back_sealed, status, created_at, expires_at, interval_seconds,
    certificate_thumbprint, dpop_key, authorization_details, resources)
  select id, auth_req_id_hash, client_id, user_id, scope, acr_values, binding_message,
    delivery_mode, notification_endpoint, call_back_sealed, 'pending', created_at, expires_at, interval_seconds,
    certificate_thumbprint, dpop_key, authorization_details, resources
  from rows($1) as asked (id text, auth_req_id_hash text, client_id text, user_id text, scope text, acr_values text,
    binding_message text, delivery_mode text, notification_endpoint text, call_back_sealed text, created_at bigint,
    expires_at bigint, interval_seconds bigint, certificate_thumbprint text, dpop_key text, authorization_details text,
    resources text, ${limitColumns})
  where ${acceptedWithin(limits)}
  returning id, user_id`

const settling = `
  update backchannel_auth_requests
  set status = answer.outcome, settled_by = answer.decision, settled_at = answer.at, acr = answer.acr, amr = answer.amr,
    auth_time = answer.auth_time, approved_details = answer.approved_details,
    call_back_sealed = case when answer.outcome = 'approved' and delivery_mode = 'push' then call_back_sealed end
  from rows($1) as answer (id text, about_user text, outcome text, decision text, at bigint, acr text, amr text,
    auth_time bigint, approved_details text)
  where backchannel_auth_requests.id = answer.id and user_id = answer.about_user and ${its('status')} = 'pending'
    and expires_at > answer.at
  returning backchannel_auth_requests.id as id, user_id`

const expiring = `
  update backchannel_auth_requests
  set status = 'expired', settled_by = deadline.decision, settled_at = deadline.at, call_back_sealed = null
  from rows($1) as deadline (id text, was text, decision text, at bigint)
  where backchannel_auth_requests.id = deadline.id and ${its('status')} in ('pending', 'approved') and status = deadline.was
    and expires_at <= deadline.at
  returning backchannel_auth_requests.id as id, user_id`

const redeeming = `
  update backchannel_auth_requests
  set status = 'redeemed', redeemed_at = redemption.at, call_back_sealed = null
  from rows($1) as redemption (id text, at bigint)
  where backchannel_auth_requests.id = redemption.id and ${its('status')} = 'approved' and expires_at > redemption.at
  returning backchannel_auth_requests.id as id`

const grown = 'interval_seconds + cast($5 as bigint)'

/** A poll is early if a request that is still open was polled less than its interval ago. A ready answer never is (TK-15). */
const early = `status = 'pending' and expires_at > $3
                  and (coalesce($3 < last_polled_at + (${grown}) * 1000, false)
                    or cast($4 as bigint) > 0 and $3 < cast($4 as bigint) + (${grown}) * 1000)`

const lastPoll = 'cast(substr(each.value, 44, 15) as bigint)'

export function toRequest(row: RequestRow): AuthenticationRequest {
  return {
    id: row.id,
    clientId: row.client_id,
    userId: row.user_id,
    scope: row.scope,
    acrValues: row.acr_values ?? undefined,
    bindingMessage: row.binding_message ?? undefined,
    authorizationDetails: fromJson(row.authorization_details),
    approvedDetails: fromJson(row.approved_details),
    resources: fromJson(row.resources),
    deliveryMode: row.delivery_mode,
    notificationEndpoint: row.notification_endpoint ?? undefined,
    callBackSealed: row.call_back_sealed ?? undefined,
    status: row.status,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    interval: row.interval_seconds,
    settledAt: row.settled_at ?? undefined,
    binding: { certificate: row.certificate_thumbprint ?? undefined, dpopKey: row.dpop_key ?? undefined },
    authentication: {
      acr: row.acr ?? undefined,
      amr: fromJson(row.amr),
      authTime: row.auth_time ?? undefined,
    },
  }
}

function jsonOf(value: object | undefined): string | undefined {
  return value === undefined ? undefined : JSON.stringify(value)
}

function fromJson<Value>(text: string | null): Value | undefined {
  return text === null ? undefined : (JSON.parse(text) as Value)
}
