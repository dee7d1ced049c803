/** A registered client, and what it is allowed to do. */

import type { Slot } from '../platform/http/load-shedding.ts'
import type { ClientCertificate } from './certificate/client-certificate.ts'
import { CIBA_GRANT, type ClientMetadata, type DeliveryMode, type HintKind } from './metadata/client-metadata.ts'

export interface Client {
  id: string
  /** Its registered metadata without the secret. Delivery mode and endpoint are the current ones. */
  metadata: ClientMetadata
  /** How the client gets its tokens (CIBA Core §5). Without a mode it cannot send authentication requests. */
  deliveryMode: DeliveryMode | undefined
  /** Where pings and pushes are sent. Present exactly for ping and push (CIBA Core §4). */
  notificationEndpoint: string | undefined
  /** Keyed hash of its secret. */
  secretHash: string | undefined
  /** Whether it registered itself: its identity was not checked. */
  registeredItself?: boolean
  /** The encrypted secret: only for `client_secret_jwt`. */
  secretSealed: string | undefined
}

/** Resolves to the authenticated client. @throws {OAuthError | Overloaded} */
export type AuthenticateClient = (credentials: ClientCredentials) => Promise<Client>

/** The credentials that a call contains. */
export interface ClientCredentials {
  form: ReadonlyMap<string, string>
  /** The `Authorization` header as received. */
  authorization: string | undefined
  /** The certificate from the connection or a trusted proxy. It proves something only for clients that registered it. */
  certificate?: ClientCertificate | undefined
  /** The caller's IP address, for the audit. */
  address?: string | undefined
  /** The call's slot among the calls in work. */
  slot?: Slot | undefined
}

/** Whether the client may send authentication requests: it has a delivery mode and, if it needs it, the CIBA grant. */
export function mayInitiate(client: Client): boolean {
  if (client.deliveryMode === undefined) return false
  return client.deliveryMode === 'push' || mayUseGrant(client)
}

/** Whether the client is registered for the CIBA grant (CIBA Core §4). */
export function mayUseGrant(client: Client): boolean {
  return client.metadata.grant_types.includes(CIBA_GRANT)
}

/**
 * Whether the client may decide for users that it has authenticated itself. Always false for a client that sends
 * authentication requests, whatever else it was registered as.
 */
export function isDeviceService(client: Client): boolean {
  return client.metadata.backchannel_device_service === true && !isCibaClient(client)
}

/** Wider than `mayInitiate` on purpose: an incomplete registration is enough to be excluded from decisions. */
export function isCibaClient(client: Client): boolean {
  return client.deliveryMode !== undefined || mayUseGrant(client)
}

/** Whether the client may use this kind of hint. */
export function mayHintBy({ metadata }: Client, kind: HintKind): boolean {
  return metadata.backchannel_allowed_hints?.includes(kind) ?? true
}

/** Whether a client may request a scope: it must be supported and, if the client registered any, registered. */
export function mayAskFor(scope: string, { metadata }: Client, known: readonly string[]): boolean {
  return known.includes(scope) && (metadata.scope === undefined || metadata.scope.split(' ').includes(scope))
}
