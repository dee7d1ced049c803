/** From registered metadata to a client as it is kept: the secret goes in here and nowhere further. */
import { fingerprint, type Vault } from '../platform/crypto.ts'
import type { Statement } from '../platform/storage/database.ts'
import type { Client } from './client.ts'
import type { ClientStore } from './client-store.ts'
import type { ClientMetadata } from './metadata/client-metadata.ts'

/** Where a sealed client secret lies, so that it opens nowhere else. */
export const secretAad = (clientId: string) => `clients/${clientId}`

export function toClient({ client_secret: secret, ...metadata }: ClientMetadata, vault: Vault): Client {
  const id = metadata.client_id
  return {
    id,
    metadata,
    deliveryMode: metadata.backchannel_token_delivery_mode,
    notificationEndpoint: metadata.backchannel_client_notification_endpoint,
    secretHash: secret === undefined ? undefined : vault.keyedHash(secret),
    secretSealed:
      secret !== undefined && metadata.token_endpoint_auth_method === 'client_secret_jwt'
        ? vault.seal(secret, secretAad(id))
        : undefined,
  }
}

/** Makes the table agree with the clients the configuration names. Answers the ids of those it no longer names, and hears of those it says something new of. */
export async function registerConfigured(
  configured: readonly ClientMetadata[],
  needs: {
    clients: ClientStore
    vault: Vault
    now: number
    changed?: (clientId: string) => void
    /** What ends with a client that is named no more. */
    endings(clientId: string, now: number): Statement[]
  },
): Promise<string[]> {
  const put = (metadata: ClientMetadata) => {
    // Keyed, because it is made from the secret too: the table must not offer a way to try secrets.
    const said = needs.vault.keyedHash(fingerprint(JSON.stringify(metadata)))
    return needs.clients.putConfigured(toClient(metadata, needs.vault), said, needs.now)
  }
  // All at once: a thousand would take as many turns at the database before the server can answer.
  const news = await Promise.all(configured.map(put))
  for (const [index, { client_id }] of configured.entries()) if (news[index]) needs.changed?.(client_id)
  const named = configured.map((metadata) => metadata.client_id)
  return needs.clients.removeConfiguredBut(named, (id) => needs.endings(id, needs.now))
}
