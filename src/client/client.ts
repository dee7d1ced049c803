/** A registered client, and what it is allowed to do. */

import type { Slot } from '../platform/http/load-shedding.ts'
import type { ClientCertificate } from './certificate/client-certificate.ts'
import { CIBA_GRANT, type ClientMetadata, type DeliveryMode, type HintKind } from './metadata/client-metadata.ts'

export interface Client {
  id: string
  /**
   * The id of this registration; undefined if the client is not stored yet. A client that is removed and added again
   * gets a new registration id.
   */
  registrationId?: string
  /** The registered metadata without the secret, with the current delivery mode and notification endpoint. */
  metadata: ClientMetadata
  /** How the client gets its tokens (CIBA Core §5). A client without a mode cannot send authentication requests. */
  deliveryMode: DeliveryMode | undefined
  /** Where pings and pushes are sent. Set if and only if the mode is ping or push (CIBA Core §4). */
  notificationEndpoint: string | undefined
  /** Keyed hash of the client secret. */
  secretHash: string | undefined
  /** Whether the client registered itself. The identity of such a client was not checked. */
  registeredItself?: boolean
  /** The encrypted client secret; set only for `client_secret_jwt`. */
  secretSealed: string | undefined
}

/** Resolves to the authenticated client. @throws {OAuthError | Overloaded} */
export type AuthenticateClient = (credentials: ClientCredentials) => Promise<Client>

/** The credentials that a call contains. */
export interface ClientCredentials {
  form: ReadonlyMap<string, string>
  /** The `Authorization` header as received. */
  authorization: string | undefined
  /**
   * The certificate from the connection or a trusted proxy. It authenticates the client only if it matches the client's
   * registration.
   */
  certificate?: ClientCertificate | undefined
  /** The caller's IP address, for the audit. */
  address?: string | undefined
  /** The load-shedding slot of the call. The number of slots limits how many calls are in progress. */
  slot?: Slot | undefined
  /** Whether a public client may make this call. A public client sends only its `client_id`. Default: false. */
  mayBePublic?: boolean
}

/**
 * Whether the client may send authentication requests: it has a delivery mode and, for poll and ping, the CIBA grant.
 */
export function mayInitiate(client: Client): boolean {
  if (client.deliveryMode === undefined) return false
  return client.deliveryMode === 'push' || mayUseGrant(client)
}

/** Whether the client is registered for the CIBA grant (CIBA Core §4). */
export function mayUseGrant(client: Client): boolean {
  return client.metadata.grant_types.includes(CIBA_GRANT)
}

/**
 * Whether the client may decide requests for users that it has authenticated itself. Always false for a client that can
 * send authentication requests, even if it is registered as a device service.
 */
export function isDeviceService(client: Client): boolean {
  return client.metadata.backchannel_device_service === true && !isCibaClient(client)
}

/**
 * Whether the client has a delivery mode or the CIBA grant. Such a client must not decide requests, even if its
 * registration is not complete enough to send requests (`mayInitiate`).
 */
export function isCibaClient(client: Client): boolean {
  return client.deliveryMode !== undefined || mayUseGrant(client)
}

/** Whether the client may use this kind of hint. */
export function mayHintBy({ metadata }: Client, kind: HintKind): boolean {
  return metadata.backchannel_allowed_hints?.includes(kind) ?? true
}

/**
 * Whether a client may request a scope. The server must support the scope, and the client must have registered this
 * scope or no scopes at all.
 *
 * @param known the scopes that the server supports
 */
export function mayAskFor(scope: string, { metadata }: Client, known: readonly string[]): boolean {
  return known.includes(scope) && (metadata.scope === undefined || metadata.scope.split(' ').includes(scope))
}
