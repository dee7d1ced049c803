import type { AuthorizationDetail } from '../../authorization-details/detail-types.ts'
import { idsBefore } from '../../platform/crypto.ts'
import { pruneByCursor } from '../../platform/storage/cursor-prune.ts'
import { atMostRows, type Database, type Statement } from '../../platform/storage/database.ts'
import type { RowOf } from '../../platform/storage/row.ts'
import { type OnUnreadable, parseStored, throwUnreadable } from '../../platform/unreadable-values.ts'
import type { Authentication } from '../../user/authentication.ts'
import { ofPresentPerson } from '../../user/user-generation-store.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { SettledStatus } from '../authentication-request/request-move-store.ts'
import { jsonOf } from '../authentication-request/request-row.ts'
import type { RequestedClaims } from '../authentication-request/requested-claims.ts'

/**
 * SQL condition, with `$1` as the user id: the row `history` is about the person who has this id now. When another
 * person gets the id of a removed user, the rows of the former person are marked (`is_former`). A decision on a request
 * of the former person may be stored later, without a mark. So the mark of the request is checked, too.
 */
export const ofPresentUser = `history.user_id = $1 and ${ofPresentPerson('history', 'decided_at')} and not exists (
  select 1 from backchannel_auth_requests theirs where theirs.id = history.request_id and theirs.is_former = 1)`

export type DecidedBy = 'user' | 'device_service' | 'clock' | 'application'

/**
 * The event that ended an open request, if it was not an answer, a revocation or the deadline. `client_removed` changes
 * the status of the request to expired. The other events change it to denied.
 */
export type EndingReason = 'user_signed_out' | 'user_locked' | 'user_removed' | 'client_blocked' | 'client_removed'

/** How a request was settled: by whom, through which client, and how the user was authenticated. */
export interface Decision extends Authentication {
  id: string
  requestId: string
  outcome: SettledStatus
  decidedBy: DecidedBy
  /**
   * The client through which the user decided: the app that called with the user's access token, or the device service.
   */
  deviceClientId: string | undefined
  /** Whether the user reported the request as unexpected ("this was not me"). */
  reported: boolean
  /** The authorization details that the user approved. */
  approvedDetails?: AuthorizationDetail[] | undefined
  /** The event that ended the request; undefined if the request ended by an answer, a revocation or its deadline. */
  reason?: EndingReason | undefined
  decidedAt: number
}

/** A decision as shown in the user's history. */
export interface HistoryEntry extends Decision {
  clientId: string
  scope: string
  bindingMessage: string | undefined
  /** The approved details or, if there are none, the requested details. */
  authorizationDetails: AuthorizationDetail[] | undefined
  resources: string[] | undefined
  /** The claims that the client requested with the parameter `claims`. */
  claims: RequestedClaims | undefined
  /** Whether tokens that were issued for this decision are still valid, or the client can still get tokens. */
  inUse: boolean
}

type DecisionRow = RowOf<Omit<HistoryEntry, 'approvedDetails' | 'inUse'>>
type EntryRow = DecisionRow & { in_use: number }

export type DecisionStore = ReturnType<typeof createDecisionStore>

/**
 * Stores the consent history. The transaction that settles a request adds a row. A later decision on the same request,
 * such as a revocation, adds another row.
 */
export function createDecisionStore(database: Database, onUnreadable = throwUnreadable) {
  const { toDecision, toEntry } = readingRows(onUnreadable)
  return {
    /** Returns the statement that stores a decision, for the transaction that settles the request. */
    add: (decision: Decision, request: AuthenticationRequest): Statement => ({
      sql: `insert into backchannel_auth_consent_history (id, request_id, client_id, user_id, outcome, decided_by,
              device_client_id, acr, amr, auth_time, reported, scope, binding_message, decided_at,
              authorization_details, resources, claims, reason)
            select id, request_id, client_id, user_id, outcome, decided_by, device_client_id, acr, amr, auth_time,
              reported, scope, binding_message, decided_at, authorization_details, resources, claims, reason
            from rows($1) as decision (id text, request_id text, client_id text, user_id text, outcome text,
              decided_by text, device_client_id text, acr text, amr text, auth_time bigint, reported bigint, scope text,
              binding_message text, decided_at bigint, authorization_details text, resources text, claims text,
              reason text)`,
      rows: [rowOf(decision, request)],
    }),

    /**
     * Resolves to the decisions on a user's requests, newest first. Decisions about a former person with the same id
     * are left out. For `inUse`, a subquery looks for valid tokens that were issued under the grant of the request. The
     * subquery has no condition on the column `model`, because SQLite would then read all tokens instead of using the
     * index on the grant.
     */
    async listForUser(userId: string, now: number, limit = 100): Promise<HistoryEntry[]> {
      const rows = await database.read<EntryRow>(
        `select history.*, case when exists (
           select 1 from oidc_models issuing join oidc_models issued on issued.grant_hash = issuing.id_hash
           where issuing.request_id = history.request_id and issued.expires_at > $2
         ) or exists (
           select 1 from backchannel_auth_requests waiting
           where waiting.id = history.request_id and waiting.status = 'approved' and waiting.expires_at > $2
         ) then 1 else 0 end as in_use
         from backchannel_auth_consent_history history
         where ${ofPresentUser}
         order by history.decided_at desc, history.id desc ${atMostRows(limit)}`,
        [userId, now],
      )
      return rows.map(toEntry)
    },

    /** Whether the user has ever approved a request of the client. */
    async hasApproved(userId: string, clientId: string): Promise<boolean> {
      const rows = await database.read(
        `select 1 as found from backchannel_auth_consent_history history
         where client_id = $2 and outcome = 'approved' and ${ofPresentUser} limit 1`,
        [userId, clientId],
      )
      return rows.length > 0
    },

    /**
     * Resolves to the decisions on a request, oldest first. An approval can be followed by an expiry or a revocation.
     */
    async listForRequest(requestId: string): Promise<Decision[]> {
      const rows = await database.read<DecisionRow>(
        'select * from backchannel_auth_consent_history where request_id = $1 order by decided_at, id',
        [requestId],
      )
      return rows.map(toDecision)
    },

    /**
     * Removes at most `atMost` decisions that were made before `before`. A decision is kept while a token that was
     * issued for it exists, because users can revoke the token in their history.
     */
    forget: pruneByCursor({
      async next(after, before, atMost) {
        const rows = await database.read<{ id: string }>(
          `select id from backchannel_auth_consent_history where id > $1 and id < $2 order by id ${atMostRows(atMost)}`,
          [after, idsBefore(before)],
        )
        return rows.map(({ id }) => id)
      },
      async remove(ids) {
        const rows = await database.step({
          sql: `with old as materialized (
                  select id from backchannel_auth_consent_history history
                  where id in (select value from each($1)) and not exists (
                      select 1 from oidc_models issuing join oidc_models issued on issued.grant_hash = issuing.id_hash
                      where issuing.request_id = history.request_id)
                  order by id /* for update skip locked */
                )
                delete from backchannel_auth_consent_history where id in (select id from old) returning id`,
          values: [JSON.stringify(ids)],
        })
        return rows.length
      },
    }),
  }
}

/** Returns the row to store: the decision, and the parts of the request that the user was shown. */
function rowOf(decision: Decision, request: AuthenticationRequest) {
  return {
    id: decision.id,
    request_id: request.id,
    client_id: request.clientId,
    user_id: request.userId,
    outcome: decision.outcome,
    decided_by: decision.decidedBy,
    device_client_id: decision.deviceClientId,
    acr: decision.acr,
    amr: jsonOf(decision.amr),
    auth_time: decision.authTime,
    reported: decision.reported ? 1 : 0,
    scope: request.scope,
    binding_message: request.bindingMessage,
    decided_at: decision.decidedAt,
    authorization_details: jsonOf(decision.approvedDetails ?? request.approvedDetails ?? request.authorizationDetails),
    resources: jsonOf(request.resources),
    claims: jsonOf(request.claims),
    reason: decision.reason,
  }
}

/**
 * Returns the functions that convert rows. A JSON column that cannot be read is reported and left out. This is safe,
 * because the history is only shown.
 */
function readingRows(onUnreadable: OnUnreadable) {
  const fromJson = <Value>(text: string | null, { id }: DecisionRow): Value | undefined =>
    text === null ? undefined : parseStored(text, `backchannel_auth_consent_history/${id}`, onUnreadable)

  function toDecision(row: DecisionRow): Decision {
    return {
      id: row.id,
      requestId: row.request_id,
      outcome: row.outcome,
      decidedBy: row.decided_by,
      deviceClientId: row.device_client_id ?? undefined,
      acr: row.acr ?? undefined,
      amr: fromJson(row.amr, row),
      authTime: row.auth_time ?? undefined,
      reported: row.reported === 1,
      ...(row.reason !== null && { reason: row.reason }),
      decidedAt: row.decided_at,
    }
  }

  function toEntry(row: EntryRow): HistoryEntry {
    return {
      ...toDecision(row),
      clientId: row.client_id,
      scope: row.scope,
      bindingMessage: row.binding_message ?? undefined,
      authorizationDetails: fromJson(row.authorization_details, row),
      resources: fromJson(row.resources, row),
      claims: fromJson(row.claims, row),
      inUse: row.in_use === 1 && row.outcome === 'approved',
    }
  }

  return { toDecision, toEntry }
}
