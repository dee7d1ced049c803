/** Who may ask: a registered client, and what it is allowed. */

import type { Slot } from '../platform/http/load-shedding.ts'
import type { ClientCertificate } from './certificate/client-certificate.ts'
import { CIBA_GRANT, type ClientMetadata, type DeliveryMode, type HintKind } from './metadata/client-metadata.ts'

export interface Client {
  id: string
  /** What it registered, but for its secret. Delivery mode and endpoint are the ones in force now. */
  metadata: ClientMetadata
  /** How the outcome reaches it. Without a mode a client cannot ring (OV-4). */
  deliveryMode: DeliveryMode | undefined
  /** Where pings and pushes go. Present exactly for ping and push (RG-3). */
  notificationEndpoint: string | undefined
  /** Keyed hash of its secret. */
  secretHash: string | undefined
  /** Whether it registered itself: nobody has checked that it is who it says. */
  registeredItself?: boolean
  /** The secret itself, sealed: only for `client_secret_jwt`. */
  secretSealed: string | undefined
}

export type AuthenticateClient = (credentials: ClientCredentials) => Promise<Client>

/** What a caller brings to show which client it is. */
export interface ClientCredentials {
  form: ReadonlyMap<string, string>
  /** The `Authorization` header as it came. */
  authorization: string | undefined
  /** What its connection showed, or a trusted proxy. It proves something only for those who registered it. */
  certificate?: ClientCertificate | undefined
  /** The IP address it came from, for the audit. */
  address?: string | undefined
  /** The call's place among those that are in work. */
  slot?: Slot | undefined
}

/** Whether the client may ring at all: it has a delivery mode and, to collect tokens itself, the grant (VL-9, RG-2). */
export function mayInitiate(client: Client): boolean {
  if (client.deliveryMode === undefined) return false
  return client.deliveryMode === 'push' || mayUseGrant(client)
}

export function mayUseGrant(client: Client): boolean {
  return client.metadata.grant_types.includes(CIBA_GRANT)
}

/**
 * Whether the client answers for users it has authenticated itself. A client that rings never does, whatever else it
 * was registered as (M1).
 */
export function isDeviceService(client: Client): boolean {
  return client.metadata.backchannel_device_service === true && !isCibaClient(client)
}

/** Wider than `mayInitiate` on purpose: half-registered is enough to be kept away from decisions. */
export function isCibaClient(client: Client): boolean {
  return client.deliveryMode !== undefined || mayUseGrant(client)
}

/** Whether the client may say which user it means with this kind of hint. */
export function mayHintBy({ metadata }: Client, kind: HintKind): boolean {
  return metadata.backchannel_allowed_hints?.includes(kind) ?? true
}

/** Whether a client may ask for a scope: of those that the provider knows, one that it registered, if it registered any. */
export function mayAskFor(scope: string, { metadata }: Client, known: readonly string[]): boolean {
  return known.includes(scope) && (metadata.scope === undefined || metadata.scope.split(' ').includes(scope))
}
