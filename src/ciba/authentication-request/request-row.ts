/** The table row of an authentication request. */
import type { DeliveryMode } from '../../client/metadata/client-metadata.ts'
import { parseStored, throwUnreadable } from '../../platform/unreadable-values.ts'
import type { AuthenticationRequest, RequestStatus } from './authentication-request.ts'

export interface RequestRow {
  id: string
  auth_req_id_hash: string
  client_id: string
  user_id: string
  scope: string
  acr_values: string | null
  claims: string | null
  binding_message: string | null
  delivery_mode: DeliveryMode
  notification_endpoint: string | null
  call_back_sealed: string | null
  status: RequestStatus
  created_at: number
  expires_at: number
  interval_seconds: number
  first_interval_seconds: number | null
  kept_polls: number | null
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

/** Converts a row. Null becomes undefined. A JSON column that cannot be parsed is reported to `onUnreadable`. */
export function toRequest(row: RequestRow, onUnreadable = throwUnreadable): AuthenticationRequest {
  let isDamaged = false
  const fromJson = <Value>(text: string | null): Value | undefined => {
    if (text === null) return undefined
    const value = parseStored<Value>(text, `backchannel_auth_requests/${row.id}`, onUnreadable)
    if (value === undefined) isDamaged = true
    return value
  }
  const request: AuthenticationRequest = {
    id: row.id,
    clientId: row.client_id,
    userId: row.user_id,
    scope: row.scope,
    acrValues: row.acr_values ?? undefined,
    claims: fromJson(row.claims),
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
  return isDamaged ? { ...request, isDamaged } : request
}

/** Returns the value to store in a JSON column. */
export function jsonOf(value: object | undefined): string | undefined {
  return value === undefined ? undefined : JSON.stringify(value)
}

/**
 * Returns an SQL expression with the value of a column, for which the database cannot use the index on this column.
 * Statements that find requests by id use this expression for the status. With the plain column, Postgres would use the
 * index on the status if its statistics say that few requests are open, and would read all open requests for each id.
 */
export const its = (column: string) => `${column} || ''`
