/** A registered client, and what it is allowed to do. */

import type { Slot } from '../platform/http/load-shedding.ts'
import type { ClientCertificate } from './certificate/client-certificate.ts'
import { CIBA_GRANT, type ClientMetadata, type DeliveryMode, type HintKind } from './metadata/client-metadata.ts'

export interface Client {
  id: string
  /** The registered metadata without the secret, with the current delivery mode and endpoint. */
  metadata: ClientMetadata
  /** How the client gets its tokens (CIBA Core §5). Without a mode it cannot send authentication requests. */
  deliveryMode: DeliveryMode | undefined
  /** Where pings and pushes are sent. Present if and only if the mode is ping or push (CIBA Core §4). */
  notificationEndpoint: string | undefined
  /** Keyed hash of the client secret. */
  secretHash: string | undefined
  /** Whether the client registered itself, so that its identity was not checked. */
  registeredItself?: boolean
  /** The encrypted client secret; present only for `client_secret_jwt`. */
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
   * The certificate from the connection or a trusted proxy. It proves nothing unless it matches the registration of the
   * client.
   */
  certificate?: ClientCertificate | undefined
  /** The caller's IP address, for the audit. */
  address?: string | undefined
  /** The slot that the call occupies among the calls in work (load shedding). */
  slot?: Slot | undefined
}

/** Whether the client may send authentication requests: it has a delivery mode and, for poll and ping, the CIBA grant. */
export function mayInitiate(client: Client): boolean {
  if (client.deliveryMode === undefined) return false
  return client.deliveryMode === 'push' || mayUseGrant(client)
}

/** Whether the client is registered for the CIBA grant (CIBA Core §4). */
export function mayUseGrant(client: Client): boolean {
  return client.metadata.grant_types.includes(CIBA_GRANT)
}

/**
 * Whether the client may decide requests of users whom it has authenticated itself. Always false for a client that can send
 * authentication requests, even if it is registered as a device service.
 */
export function isDeviceService(client: Client): boolean {
  return client.metadata.backchannel_device_service === true && !isCibaClient(client)
}

/**
 * Whether the client has a delivery mode or the CIBA grant. Either is enough to exclude the client from decisions, even if
 * the registration is too incomplete for `mayInitiate`.
 */
export function isCibaClient(client: Client): boolean {
  return client.deliveryMode !== undefined || mayUseGrant(client)
}

/** Whether the client may use this kind of hint. */
export function mayHintBy({ metadata }: Client, kind: HintKind): boolean {
  return metadata.backchannel_allowed_hints?.includes(kind) ?? true
}

/**
 * Whether a client may request a scope. The server must support it and, if the client registered scopes, it must be one of
 * them.
 */
export function mayAskFor(scope: string, { metadata }: Client, known: readonly string[]): boolean {
  return known.includes(scope) && (metadata.scope === undefined || metadata.scope.split(' ').includes(scope))
}
