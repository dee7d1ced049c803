/**
 * Keys of clients whose authentication is oidc-provider's. It would fetch them in the middle of its work, for anybody who
 * claims to be such a client; so they are brought before the call is handed over, as they are for our own endpoints, and
 * it finds them here.
 */
import { type CompactJWSHeaderParameters, decodeProtectedHeader } from 'jose'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { Overloaded } from '../../platform/http/unavailable.ts'
import type { Client, ClientCredentials } from '../client.ts'
import type { ClientStore } from '../client-store.ts'
import { readAssertion } from './client-assertion.ts'
import type { ClientKeys } from './client-keys.ts'
import { readTls } from './client-tls.ts'

export interface PrepareKeysNeeds {
  clients: Pick<ClientStore, 'find'>
  keys: ClientKeys
}

/**
 * Whatever is wrong with the credentials, or with the keys, oidc-provider finds too, and says so. Resolves to whether the
 * caller may have been kept waiting.
 *
 * @throws {Overloaded} if too many wait for keys
 */
export function createPrepareKeys({ clients, keys }: PrepareKeysNeeds) {
  return async (call: Pick<ClientCredentials, 'form' | 'certificate' | 'slot'>): Promise<boolean> => {
    const credentials = { ...call, authorization: undefined }
    try {
      const claim = readAssertion(credentials) ?? readTls(credentials)
      const client = claim && (await clients.find(claim.clientId))
      if (client?.metadata.jwks_uri === undefined) return false
      await bringKeys(client, claim!.proof, call.slot, keys)
    } catch (error) {
      if (error instanceof Overloaded) throw error
    }
    return true
  }
}

async function bringKeys(client: Client, proof: string, slot: Slot | undefined, keys: ClientKeys): Promise<void> {
  const { token_endpoint_auth_method: method } = client.metadata
  if (method === 'self_signed_tls_client_auth') await keys.certificatesOf(client, slot)
  if (method !== 'private_key_jwt') return
  // The key is not used: looking for it fetches the set again if it is not in there.
  await keys.of(client, slot)(decodeProtectedHeader(proof) as CompactJWSHeaderParameters, {
    payload: '',
    signature: '',
  })
}
