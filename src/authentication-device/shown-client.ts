import type { Client } from '../client/client.ts'
import { usesItsKeys } from '../client/metadata/sector.ts'

/**
 * Returns the members of a client that users see: an explicit list, so that new members are not shown unintentionally.
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
 * Returns `self_registered` and the hosts of the addresses that the client uses, if the client registered itself.
 * Addresses that the client does not use are left out, such as the redirect URIs of a CIBA client or unused keys. A
 * client could register such addresses with hosts that are not its own.
 */
export function selfRegistration(client: Client | undefined): { self_registered?: true; hosts?: string[] } {
  if (!client?.registeredItself) return {}
  const { jwks_uri, redirect_uris, backchannel_token_delivery_mode: mode } = client.metadata
  const keys = usesItsKeys(client.metadata) ? [jwks_uri] : []
  const addresses = mode === undefined ? [...keys, ...redirect_uris] : [client.notificationEndpoint, ...keys]
  const hosts = addresses.map((address) => URL.parse(address ?? '')?.hostname).filter((host) => host)
  return { self_registered: true, hosts: [...new Set(hosts as string[])].slice(0, mostHosts) }
}
