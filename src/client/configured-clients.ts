/** Converts client metadata to the form in which a client is stored: its secret is hashed or encrypted. */
import { fingerprint, type Vault } from '../platform/crypto.ts'
import type { Statement } from '../platform/storage/database.ts'
import type { Client } from './client.ts'
import type { ClientStore } from './client-store.ts'
import type { ClientMetadata } from './metadata/client-metadata.ts'

/** The additional authenticated data of a client's encrypted secret: it names the row that the secret belongs to. */
export const secretAad = (clientId: string) => `clients/${clientId}`

/** Returns the client as it is stored, without the secret in clear text. */
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

/**
 * Synchronises the table with the configured clients. Resolves to the ids of the removed clients. Calls `changed` for each
 * client whose configuration changed.
 */
export async function registerConfigured(
  configured: readonly ClientMetadata[],
  needs: {
    clients: ClientStore
    vault: Vault
    now: number
    changed?: (clientId: string) => unknown
    /** Returns the statements that revoke or remove all that belongs to a removed client. */
    endings(clientId: string, now: number): Statement[]
  },
): Promise<string[]> {
  const put = (metadata: ClientMetadata) => {
    // A keyed hash, because the metadata contains the secret: a reader of the table must not be able to test guesses.
    const said = needs.vault.keyedHash(fingerprint(JSON.stringify(metadata)))
    return needs.clients.putConfigured(toClient(metadata, needs.vault), said, needs.now)
  }
  // In parallel: a thousand clients, one after the other, would delay the start.
  const news = await Promise.all(configured.map(put))
  for (const [index, { client_id }] of configured.entries()) if (news[index]) needs.changed?.(client_id)
  const named = configured.map((metadata) => metadata.client_id)
  return needs.clients.removeConfiguredBut(named, (id) => needs.endings(id, needs.now))
}
