import type { Client } from '../client/client.ts'

/** What a user may know of a client: a list of names, so that nothing gets in by itself (M28). */
export function showClient(clientId: string, client: Client | undefined) {
  return {
    client_id: clientId,
    client_name: client?.metadata.client_name,
    logo_uri: client?.metadata.logo_uri,
    policy_uri: client?.metadata.policy_uri,
    tos_uri: client?.metadata.tos_uri,
  }
}
