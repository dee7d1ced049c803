/**
 * Fetches the keys of a client before its call is forwarded to oidc-provider, so that oidc-provider finds the keys in
 * the cache. Otherwise oidc-provider would fetch the keys itself, for any caller that claims to be the client, without
 * the limits of our own endpoints.
 */
import { type CompactJWSHeaderParameters, decodeProtectedHeader } from 'jose'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { Unavailable } from '../../platform/http/unavailable.ts'
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
 * Returns a function that fetches the keys for a call. The function resolves to whether the call may have waited for
 * keys. It ignores invalid credentials and keys, because oidc-provider reports them.
 *
 * @throws {Unavailable} if the keys cannot be fetched now, or too many calls wait for keys
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
      if (error instanceof Unavailable) throw error
    }
    return true
  }
}

async function bringKeys(client: Client, proof: string, slot: Slot | undefined, keys: ClientKeys): Promise<void> {
  const { token_endpoint_auth_method: method } = client.metadata
  if (method === 'self_signed_tls_client_auth') await keys.certificatesOf(client, slot)
  if (method !== 'private_key_jwt') return
  // The key itself is not used here. The look-up fills the cache: if the cached key set does not contain the key, it
  // fetches the key set again.
  const [protectedHeader, payload, signature] = proof.split('.')
  await keys.of(client, slot)(decodeProtectedHeader(proof) as CompactJWSHeaderParameters, {
    protected: protectedHeader!,
    payload: payload ?? '',
    signature: signature ?? '',
  })
}
