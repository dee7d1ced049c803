/** The public keys of clients, from their registration or from their `jwks_uri`. */
import type { JSONWebKeySet, JWTVerifyGetKey } from 'jose'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { keysIn } from '../../platform/jose/find-key.ts'
import type { KeySets } from '../../platform/jose/key-sets.ts'
import { thumbprintOf } from '../certificate/client-certificate.ts'
import type { Client } from '../client.ts'

export interface ClientKeys {
  /**
   * Returns a function that finds the client's key with which a signature can be verified.
   *
   * @param slot the load-shedding slot of the call, which is released while the call waits for keys
   */
  of(client: Client, slot: Slot | undefined): JWTVerifyGetKey
  /**
   * Resolves to the thumbprints of the certificates that the client registered. The first certificate in the `x5c` of
   * each key is such a certificate (RFC 8705 §2.2.2).
   */
  certificatesOf(client: Client, slot: Slot | undefined): Promise<string[]>
}

/** Returns the functions that look up the keys of clients. `keySets` fetches and caches the key set at a `jwks_uri`. */
export function createClientKeys(keySets: KeySets): ClientKeys {
  const readKeys = new WeakMap<object, JWTVerifyGetKey>()

  /**
   * Returns the keys of a registered `jwks`, imported by jose. They are cached as long as the client is cached, so that
   * each key is imported only once.
   */
  function importedKeys(jwks: object): JWTVerifyGetKey {
    const known = readKeys.get(jwks)
    if (known) return known
    const keys = keysIn(jwks as JSONWebKeySet)
    readKeys.set(jwks, keys)
    return keys
  }

  return {
    of({ metadata }, slot) {
      if (metadata.jwks !== undefined) return importedKeys(metadata.jwks)
      if (metadata.jwks_uri === undefined) throw new Error('the client has registered no keys')
      return keySets.at(metadata.jwks_uri, slot)
    },
    async certificatesOf({ metadata }, slot) {
      if (metadata.jwks !== undefined) return certificatesIn(metadata.jwks as JSONWebKeySet)
      return metadata.jwks_uri === undefined ? [] : certificatesIn(await keySets.latest(metadata.jwks_uri, slot))
    },
  }
}

function certificatesIn({ keys }: JSONWebKeySet): string[] {
  const first = keys.map(({ x5c }) => (Array.isArray(x5c) ? x5c[0] : undefined))
  return first
    .filter((base64) => typeof base64 === 'string')
    .map((base64) => thumbprintOf(Buffer.from(base64, 'base64')))
}
