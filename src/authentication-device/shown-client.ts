import type { Client } from '../client/client.ts'
import type { ClientStore } from '../client/client-store.ts'
import { usesItsKeys } from '../client/metadata/sector.ts'

export type ClientsById = ReadonlyMap<string, Client | undefined>

/**
 * Resolves to the clients of requests. Looks up each client once, and one client after the other, so that a long list
 * of requests does not use all connections to the database.
 */
export async function findClients(
  requests: readonly { clientId: string }[],
  clients: Pick<ClientStore, 'find'>,
): Promise<ClientsById> {
  const found = new Map<string, Client | undefined>()
  for (const { clientId } of requests) {
    if (!found.has(clientId)) found.set(clientId, await clients.find(clientId))
  }
  return found
}

/**
 * Returns the members of a client that users see. The members are listed one by one, so that a member that is added to
 * the metadata later is not shown unintentionally.
 */
export function showClient(clientId: string, client: Client | undefined) {
  return {
    client_id: clientId,
    client_name: client?.metadata.client_name,
    logo_uri: client?.metadata.logo_uri,
    policy_uri: client?.metadata.policy_uri,
    tos_uri: client?.metadata.tos_uri,
    ...selfRegistration(client),
  }
}

/** Maximum number of hosts that are shown for a client. */
const mostHosts = 3

/**
 * If the client registered itself, returns `self_registered` and the hosts of the URLs that the client uses. URLs that
 * the client does not use are left out, because they may have hosts that are not the client's. Examples of unused URLs
 * are the redirect URIs of a CIBA client, and a `jwks_uri` whose keys are not used.
 */
export function selfRegistration(client: Client | undefined): { self_registered?: true; hosts?: string[] } {
  if (!client?.registeredItself) return {}
  const { jwks_uri, redirect_uris, backchannel_token_delivery_mode: mode } = client.metadata
  const keys = usesItsKeys(client.metadata) ? [jwks_uri] : []
  const addresses = mode === undefined ? [...keys, ...redirect_uris] : [client.notificationEndpoint, ...keys]
  const hosts = addresses.map((address) => URL.parse(address ?? '')?.hostname).filter((host) => host)
  return { self_registered: true, hosts: [...new Set(hosts as string[])].slice(0, mostHosts) }
}
