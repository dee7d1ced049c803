/** The public keys of clients: from their registration, or from their `jwks_uri`, fetched through the guarded caller. */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import type { Client } from '../client/client.ts'
import type { Clock } from '../clock.ts'
import type { GuardedCaller } from '../http/outgoing.ts'

export interface ClientKeys {
  of(client: Client): JWTVerifyGetKey
}

/** Milliseconds a fetched key set is used before it is fetched again. */
const freshFor = 10 * 60_000
/** Milliseconds between two fetches for a key that is not in the set (CA-7: once, and not as often as a caller likes). */
const patience = 30_000

interface Fetched {
  keySet: Promise<JWTVerifyGetKey>
  at: number
}

export function createClientKeys({ caller, clock }: { caller: GuardedCaller; clock: Clock }): ClientKeys {
  const fetched = new Map<string, Fetched>()

  /** One fetch at a time for an address: all who wait share it (JO-5). */
  function keySetAt(uri: string, oldest: number): Promise<JWTVerifyGetKey> {
    const known = fetched.get(uri)
    if (known !== undefined && known.at >= oldest) return known.keySet
    const keySet = fetchKeySet(uri, caller)
    const entry = { keySet, at: clock.now() }
    fetched.set(uri, entry)
    keySet.catch(() => fetched.get(uri) === entry && fetched.delete(uri))
    return keySet
  }

  return {
    of({ metadata }) {
      if (metadata.jwks !== undefined) return createLocalJWKSet(metadata.jwks as JSONWebKeySet) as JWTVerifyGetKey
      const uri = metadata.jwks_uri
      if (uri === undefined) throw new Error('the client has registered no keys')
      return async (header, token) => {
        const now = clock.now()
        try {
          return await (await keySetAt(uri, now - freshFor))(header, token)
        } catch (error) {
          if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
          return await (await keySetAt(uri, now - patience))(header, token)
        }
      }
    },
  }
}

async function fetchKeySet(uri: string, caller: GuardedCaller): Promise<JWTVerifyGetKey> {
  const answer = await caller.call({ url: uri, method: 'GET', headers: { accept: 'application/json' } })
  if (answer.status !== 200) throw new Error(`jwks_uri answered ${answer.status}`)
  return createLocalJWKSet(JSON.parse(answer.body) as JSONWebKeySet) as JWTVerifyGetKey
}
