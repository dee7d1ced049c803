/** Stores the clients of the configuration. Secrets are hashed or encrypted before clients are stored. */
import { fingerprint, type Vault } from '../platform/crypto.ts'
import type { Statement } from '../platform/storage/database.ts'
import type { Client } from './client.ts'
import type { ClientStore } from './client-store.ts'
import type { ClientMetadata } from './metadata/client-metadata.ts'

/**
 * Returns the additional authenticated data for the encrypted secret of a client. It contains the client id, so that
 * the encrypted secret is useless in the row of another client.
 */
export const secretAad = (clientId: string) => `clients/${clientId}`

/**
 * Returns the client as it is stored, without the secret in clear text. The secret is hashed and, for
 * `client_secret_jwt`, also encrypted.
 */
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
 * Applies the configuration to the table of clients: adds and updates the configured clients, and removes clients that
 * the configuration no longer contains. Calls `changed` for each client that was added or updated. Resolves to the ids
 * of the removed clients.
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
    // The metadata contains the client secret. The hash is keyed, so that a reader of the table cannot test guesses of
    // the secret.
    const said = needs.vault.keyedHash(fingerprint(JSON.stringify(metadata)))
    return needs.clients.putConfigured(toClient(metadata, needs.vault), said, needs.now)
  }
  // The clients are stored in parallel, because a thousand clients stored one after the other would delay the start.
  const news = await Promise.all(configured.map(put))
  for (const [index, { client_id }] of configured.entries()) if (news[index]) needs.changed?.(client_id)
  const named = configured.map((metadata) => metadata.client_id)
  return needs.clients.removeConfiguredBut(named, (id) => needs.endings(id, needs.now))
}
