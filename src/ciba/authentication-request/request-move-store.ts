/**
 * The transitions of an authentication request from one status to another. Each transition is one conditional SQL
 * statement. If two transitions of the same request run at the same time, only the first finds its condition true.
 * Concurrent transitions of different requests are executed in one batch if their SQL is the same.
 */
import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import { clientLock } from '../../client/client-store.ts'
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
import { isSignedIn, signedInLock, signOutLock } from '../../user/token-validity-store.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
import {
  acceptedWithin,
  limitColumns,
  limitRow,
  lookingForObstacle,
  mostImportantLimit,
  type ObstacleRow,
  orderKey,
  type ReachedLimit,
  type RequestLimits,
} from './request-limit-store.ts'
import { its, jsonOf } from './request-row.ts'
import { USER_REQUESTS, type UserKey } from './user-announcement.ts'

export type SettledStatus = 'approved' | 'denied' | 'expired'

export interface Settlement {
  /** The user who decides. The request is settled only if it is about this user. */
  userId: string
  outcome: 'approved' | 'denied'
  /** Id of the history row of the decision. */
  settledBy: string
  now: number
  authentication: Authentication
  /** The hash of the user's access token. If given, the request is settled only if the token is still valid. */
  tokenHash?: string | undefined
  /** The authorization details that the user approved. */
  approvedDetails?: AuthorizationDetail[] | undefined
}

/** A request whose status was changed. If the row has `user_id`, the change is also announced for this user. */
interface MovedRow {
  id: string
  user_id?: string
}

/**
 * The further writes of the transaction that changes the status of a request. If the status is not changed, these
 * writes are not executed.
 */
export interface Consequences {
  facts?: Statement[]
  notifications?: readonly OutboxMessage[]
}

/** A transition of one request. */
interface Move {
  id: string
  /** The input row of the conditional statement, `id` included. */
  row: Record<string, Value | undefined>
  /** Transitions that share a key do not run at the same time, on any node. */
  lockKeys?: string[]
  /** See `StepOptions`. */
  sharedLockKeys?: string[]
  /** See `Database.inLockOrder`. */
  yields?: boolean
}

/** A transition, with the further statements and announcements of its transaction. */
interface MoveStep extends Move {
  also: Statement[]
  announce: string[]
}

export interface MoveNeeds {
  /** Returns the key under which changes of a user's requests are announced. */
  userKey: UserKey
  enqueue: Enqueue
  /**
   * Converts a time of this node's wall clock to the database's clock, because the pauses after denials are stored as
   * times of that clock. Default: the time is not changed.
   */
  toDatabaseTime?: (wallClockTime: number) => number
}

/** Returns the announcement that the status of the request has changed. */
export const announced = (id: string): Change[] => [{ topic: 'request', key: id }]

/**
 * Returns the function that executes transitions with the statement `sql`. That function resolves to whether the status
 * was changed.
 */
type Moves = (sql: string) => (move: Move, consequences: Consequences) => Promise<boolean>

function createMoves(database: Database, { userKey, enqueue }: MoveNeeds): Moves {
  /**
   * @param sql a statement that takes a list of rows, and returns a `MovedRow` for each request whose status it changed
   */
  function moves(sql: string): ReturnType<Moves> {
    const execute = writeBatch<MoveStep, boolean>({
      conflictKeys: ({ id, lockKeys = [] }) => [id, ...lockKeys],
      async execute(all) {
        const those = (moved: MovedRow[]) => {
          if (moved.length === all.length) return all
          const ids = new Set(moved.map(({ id }) => id))
          return all.filter(({ id }) => ids.has(id))
        }
        const moved = await database.step<MovedRow>(
          // Every node locks rows in the same order, so that no two transactions deadlock.
          { sql, rows: all.map(({ row }) => row).sort((one, other) => (one.id! < other.id! ? -1 : 1)) },
          {
            also: (moved) => mergeRowStatements(those(moved).flatMap(({ also }) => also)),
            announce: (moved) => [...those(moved).flatMap(changesOf), ...changesByUser(moved)],
            lockKeys: all.flatMap(({ lockKeys = [] }) => lockKeys),
            sharedLockKeys: all.flatMap(({ sharedLockKeys = [] }) => sharedLockKeys),
            hasTurn: true,
          },
        )
        const ids = new Set(moved.map(({ id }) => id))
        return all.map(({ id }) => ids.has(id))
      },
    })
    // A transition joins a batch only when its lock keys are free. So the other transitions of the batch do not wait
    // for these keys.
    return (move, { facts = [], notifications = [] }) =>
      enqueue(notifications, (adding, topics) =>
        database.inLockOrder(
          move.lockKeys ?? [],
          () => execute({ ...move, also: [...facts, ...adding], announce: topics }),
          { yields: move.yields ?? false },
        ),
      )
  }

  const changesOf = ({ id, announce }: MoveStep): Change[] => [
    ...announced(id),
    ...announce.map((topic) => ({ topic, key: id })),
  ]

  /** Returns one announcement for each user, even if several requests of the user were changed. */
  const changesByUser = (moved: MovedRow[]): Change[] =>
    [...new Set(moved.flatMap(({ user_id }) => user_id ?? []))].map((id) => ({
      topic: USER_REQUESTS,
      key: userKey(id),
    }))

  return moves
}

/** Stores new requests if the limits permit it. */
export function acceptingIn(database: Database, needs: MoveNeeds) {
  const moves = createMoves(database, needs)
  const { toDatabaseTime = (time: number) => time } = needs

  /**
   * The functions that store requests, by `orderKey`. There are only a few functions, because many limits have the same
   * `orderKey`.
   */
  const keepers = new Map<string, ReturnType<typeof moves>>()
  /**
   * The same functions as in `keepers`, by `RequestLimits` object. To find an object is faster than to compute its
   * `orderKey`.
   */
  const byLimits = new WeakMap<RequestLimits, ReturnType<typeof moves>>()
  function keepWithin(limits: RequestLimits): ReturnType<typeof moves> {
    const known = byLimits.get(limits)
    if (known !== undefined) return known
    const key = orderKey(limits)
    const keep = keepers.get(key) ?? moves(acceptingWithin(limits))
    keepers.set(key, keep)
    byLimits.set(limits, keep)
    return keep
  }

  return {
    /**
     * Stores a new request with its consequences, unless one of these conditions holds:
     * - A limit is reached.
     * - The user has blocked the client.
     * - The client has to pause after a denial, or after an unanswered request with a lifetime below `shortLife`.
     * - The user is locked, removed or erased, or was changed at about the time of the request.
     * - The client was removed after it was authenticated.
     *
     * One statement checks all these conditions.
     * @returns whether the request was stored
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
          claims: jsonOf(request.claims),
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
          ...limitRow(limits, toDatabaseTime(request.createdAt)),
        },
        // Without `lockKeys`, two concurrent transactions would not count each other's request. Without
        // `sharedLockKeys`, a request that is accepted while its client is being removed would stay pending.
        lockKeys: [signOutLock(request.userId), ...(limits.perClient ? [clientLock(request.clientId)] : [])],
        sharedLockKeys: [clientLock(request.clientId)],
        // A client can send any number of requests, and all of them wait for the lock of the user. A decision or a
        // sign-out by this user needs the same lock. With `yields`, it runs before requests that have waited only for a
        // short time (`inLockOrder`).
        yields: true,
      }
      return keepWithin(limits)(move, consequences)
    },

    /**
     * Resolves to the limit that prevented a request from being accepted. Resolves to undefined if no limit is reached
     * any more.
     */
    async obstacleTo(
      about: Pick<AuthenticationRequest, 'userId' | 'clientId'>,
      limits: RequestLimits,
      now: number,
    ): Promise<ReachedLimit | undefined> {
      const { sql, values } = lookingForObstacle(about, limits, { now, databaseNow: toDatabaseTime(now) })
      const [row] = await database.read<ObstacleRow>(sql, values)
      return mostImportantLimit(row!, limits)
    },
  }
}

/** Approves, denies, expires and redeems requests. */
export function settlingIn(database: Database, needs: MoveNeeds) {
  const moves = createMoves(database, needs)
  const settle = moves(settling)
  const expire = moves(expiring)
  const redeem = moves(redeeming)

  return {
    /**
     * Approves or denies a pending request before its deadline. `call_back_sealed` is erased, because the notification
     * in the outbox contains the same values. There is one exception: if a request for push is approved,
     * `call_back_sealed` is kept. If the approval then expires before the tokens are delivered, another notification is
     * composed from `call_back_sealed`.
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
        token_hash: settlement.tokenHash,
      }
      const lockKeys = signedInLock(settlement.userId, settlement.tokenHash)
      return settle({ id, row, lockKeys }, consequences)
    },

    /**
     * Changes the status of a pending or approved request to expired, after its deadline. `consequences` depend on the
     * status before the expiry. So the status is changed only if the stored status is still `status`.
     */
    expire: (
      { id, status }: Pick<AuthenticationRequest, 'id' | 'status'>,
      settledBy: string,
      now: number,
      consequences: Consequences = {},
    ): Promise<boolean> => expire({ id, row: { id, was: status, decision: settledBy, at: now } }, consequences),

    /**
     * Redeems an approved request before its deadline. The statements `facts` save the tokens in the same transaction.
     */
    redeem: (id: string, now: number, facts: Statement[]): Promise<boolean> =>
      redeem({ id, row: { id, at: now } }, { facts }),
  }
}

const acceptingWithin = (limits: RequestLimits) => `
  insert into backchannel_auth_requests (id, auth_req_id_hash, client_id, user_id, scope, acr_values, binding_message,
    delivery_mode, notification_endpoint, call_back_sealed, status, created_at, expires_at, interval_seconds,
    first_interval_seconds, certificate_thumbprint, dpop_key, authorization_details, resources, claims)
  select id, auth_req_id_hash, client_id, user_id, scope, acr_values, binding_message,
    delivery_mode, notification_endpoint, call_back_sealed, 'pending', created_at, expires_at, interval_seconds,
    interval_seconds, certificate_thumbprint, dpop_key, authorization_details, resources, claims
  from rows($1) as asked (id text, auth_req_id_hash text, client_id text, user_id text, scope text, acr_values text,
    binding_message text, delivery_mode text, notification_endpoint text, call_back_sealed text, created_at bigint,
    expires_at bigint, interval_seconds bigint, certificate_thumbprint text, dpop_key text, authorization_details text,
    resources text, claims text, ${limitColumns})
  where ${acceptedWithin(limits)}
  returning id, user_id`

const settling = `
  update backchannel_auth_requests
  set status = answer.outcome, settled_by = answer.decision, settled_at = answer.at, acr = answer.acr, amr = answer.amr,
    auth_time = answer.auth_time, approved_details = answer.approved_details,
    call_back_sealed = case when answer.outcome = 'approved' and delivery_mode = 'push' then call_back_sealed end
  from rows($1) as answer (id text, about_user text, outcome text, decision text, at bigint, acr text, amr text,
    auth_time bigint, approved_details text, token_hash text)
  where backchannel_auth_requests.id = answer.id and user_id = answer.about_user and ${its('status')} = 'pending'
    and expires_at > answer.at
    and ${isSignedIn('answer.token_hash')}
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
