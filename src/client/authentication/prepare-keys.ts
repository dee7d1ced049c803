/**
 * Fetches the keys of clients that oidc-provider authenticates. oidc-provider would fetch them while it handles the call,
 * for any caller that claims to be such a client. So they are fetched before the call is forwarded, with the same limits
 * as at our own endpoints, and oidc-provider gets them from the cache.
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
 * Ignores invalid credentials and keys: oidc-provider reports them. Resolves to whether the caller may have waited.
 *
 * @throws {Overloaded} if too many calls wait for keys
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
  // The key is not used here: looking it up fetches the set again if the key is not in it.
  await keys.of(client, slot)(decodeProtectedHeader(proof) as CompactJWSHeaderParameters, {
    payload: '',
    signature: '',
  })
}
