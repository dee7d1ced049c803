/**
 * What changes the state of an authentication request. Each move is one conditional statement: of two that happen at once,
 * one finds its condition gone. Moves of the same kind that come together are carried out together.
 */
import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import type { Enqueue } from '../../outbox/enqueue.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import { fingerprint } from '../../platform/crypto.ts'
import { writeBatch } from '../../platform/storage/batch.ts'
import {
  type Change,
  type Database,
  mergeRowStatements,
  type Statement,
  type Value,
} from '../../platform/storage/database.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
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
import { its, jsonOf } from './request-row.ts'
import { USER_REQUESTS, type UserKey } from './user-announcement.ts'

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

/** A request that a statement has moved. Its user is only told where what waits for the user has changed. */
interface MovedRow {
  id: string
  user_id?: string
}

/** What is written in the step of a move, if the request is moved. */
export interface Consequences {
  facts?: Statement[]
  notifications?: readonly OutboxMessage[]
}

/** One request's move from one state to the next. */
interface Move {
  id: string
  /** What the statement that decides is told of it, `id` included. */
  row: Record<string, Value | undefined>
  /** What other moves must not be under way for at the same moment, on any node. */
  lockKeys?: string[]
}

/** A move, and what its step writes and announces besides. */
interface MoveStep extends Move {
  also: Statement[]
  announce: string[]
}

export interface MoveNeeds {
  /** Under which key a user's changes are announced. */
  userKey: UserKey
  enqueue: Enqueue
}

/** How a move is announced. */
export const announced = (id: string): Change[] => [{ topic: 'request', key: id }]

/** Carries out moves of one kind, told apart by their SQL. */
type Moves = (sql: string) => (move: Move, consequences: Consequences) => Promise<boolean>

function createMoves(database: Database, { userKey, enqueue }: MoveNeeds): Moves {
  /** @param sql over rows, returns a `MovedRow` for each request that was moved. @returns whether this one was */
  function moves(sql: string): ReturnType<Moves> {
    const execute = writeBatch<MoveStep, boolean>({
      conflictKeys: ({ id, lockKeys = [] }) => [id, ...lockKeys],
      async execute(all) {
        const those = (moved: MovedRow[]) => {
          const ids = new Set(moved.map(({ id }) => id))
          return all.filter(({ id }) => ids.has(id))
        }
        const moved = await database.step<MovedRow>(
          // Everybody takes rows in the same order, so that no two wait for each other.
          { sql, rows: all.map(({ row }) => row).sort((one, other) => (one.id! < other.id! ? -1 : 1)) },
          {
            also: (moved) => mergeRowStatements(those(moved).flatMap(({ also }) => also)),
            announce: (moved) => [...those(moved).flatMap(changesOf), ...changesByUser(moved)],
            lockKeys: all.flatMap(({ lockKeys = [] }) => lockKeys),
          },
        )
        const ids = new Set(moved.map(({ id }) => id))
        return all.map(({ id }) => ids.has(id))
      },
    })
    return (move, { facts = [], notifications = [] }) =>
      enqueue(notifications, (adding, topics) => execute({ ...move, also: [...facts, ...adding], announce: topics }))
  }

  const changesOf = ({ id, announce }: MoveStep): Change[] => [
    ...announced(id),
    ...announce.map((topic) => ({ topic, key: id })),
  ]

  /** One for each user, however many of their requests were moved. */
  const changesByUser = (moved: MovedRow[]): Change[] =>
    [...new Set(moved.flatMap(({ user_id }) => user_id ?? []))].map((id) => ({
      topic: USER_REQUESTS,
      key: userKey(id),
    }))

  return moves
}

/** Keeping a new request, within its limits. */
export function acceptingIn(database: Database, needs: MoveNeeds) {
  const moves = createMoves(database, needs)

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
      consequences: Consequences = {},
    ): Promise<boolean> => {
      const move = {
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
        // Of two that count at once, neither would count the other.
        lockKeys: [`requests of ${request.userId}`, ...(limits.perClient ? [`requests by ${request.clientId}`] : [])],
      }
      return keepWithin(limits)(move, consequences)
    },

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
  }
}

/** What becomes of a request: decided, run out, redeemed. */
export function settlingIn(database: Database, needs: MoveNeeds) {
  const moves = createMoves(database, needs)
  const settle = moves(settling)
  const expire = moves(expiring)
  const redeem = moves(redeeming)

  return {
    /**
     * pending → approved or denied, before the deadline. A notification takes the call back over; only an approval that
     * is to be pushed keeps it, in case it runs out before it could be handed over.
     */
    settle(id: string, settlement: Settlement, consequences: Consequences = {}): Promise<boolean> {
      const { acr, amr, authTime } = settlement.authentication
      const row = {
        id,
        about_user: settlement.userId,
        outcome: settlement.outcome,
        decision: settlement.settledBy,
        at: settlement.now,
        acr,
        amr: jsonOf(amr),
        auth_time: authTime,
        approved_details: jsonOf(settlement.approvedDetails),
      }
      return settle({ id, row }, consequences)
    },

    /**
     * pending or approved → expired, once the deadline has passed. What follows depends on which of the two it was, so it
     * must be as it was read.
     */
    expire: (
      { id, status }: Pick<AuthenticationRequest, 'id' | 'status'>,
      settledBy: string,
      now: number,
      consequences: Consequences = {},
    ): Promise<boolean> => expire({ id, row: { id, was: status, decision: settledBy, at: now } }, consequences),

    /** approved → redeemed, before the deadline, together with the tokens among the facts: all of it, or none. */
    redeem: (id: string, now: number, facts: Statement[]): Promise<boolean> =>
      redeem({ id, row: { id, at: now } }, { facts }),
  }
}

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
