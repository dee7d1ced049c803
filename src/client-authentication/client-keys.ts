/** The public keys of clients: from their registration, or from their `jwks_uri`, fetched through the guarded caller. */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import type { Client } from '../client/client.ts'
import { thumbprintOf } from '../client-certificate/client-certificate.ts'
import type { Clock } from '../clock.ts'
import type { GuardedCaller } from '../http/outgoing.ts'

export interface ClientKeys {
  of(client: Client): JWTVerifyGetKey
  /** Thumbprints of the certificates the client has registered: the first of each key's `x5c` (ML-5). */
  certificatesOf(client: Client): Promise<string[]>
}

/** Milliseconds a fetched key set is used before it is fetched again. */
const freshFor = 10 * 60_000
/** Milliseconds between two fetches for a key that is not in the set (CA-7: once, and not as often as a caller likes). */
const patience = 30_000

/** Key sets that are remembered; of more, the one fetched longest ago is forgotten. */
const mostSets = 1000

interface Fetched {
  keySet: Promise<KeySet>
  at: number
}

interface KeySet {
  find: JWTVerifyGetKey
  certificates: string[]
}

export function createClientKeys({ caller, clock }: { caller: GuardedCaller; clock: Clock }): ClientKeys {
  const fetched = new Map<string, Fetched>()

  /** One fetch at a time for an address: all who wait share it (JO-5). */
  function keySetAt(uri: string, oldest: number): Promise<KeySet> {
    const known = fetched.get(uri)
    if (known !== undefined && known.at >= oldest) return known.keySet
    const keySet = fetchKeySet(uri, caller)
    const entry = { keySet, at: clock.now() }
    fetched.delete(uri)
    fetched.set(uri, entry)
    if (fetched.size > mostSets) fetched.delete(fetched.keys().next().value!)
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
          return await (await keySetAt(uri, now - freshFor)).find(header, token)
        } catch (error) {
          if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
          return await (await keySetAt(uri, now - patience)).find(header, token)
        }
      }
    },
    async certificatesOf({ metadata }) {
      if (metadata.jwks !== undefined) return certificatesIn(metadata.jwks as JSONWebKeySet)
      return metadata.jwks_uri === undefined
        ? []
        : (await keySetAt(metadata.jwks_uri, clock.now() - patience)).certificates
    },
  }
}

async function fetchKeySet(uri: string, caller: GuardedCaller): Promise<KeySet> {
  const answer = await caller.call({ url: uri, method: 'GET', headers: { accept: 'application/json' } })
  if (answer.status !== 200) throw new Error(`jwks_uri answered ${answer.status}`)
  const set = JSON.parse(answer.body) as JSONWebKeySet
  return { find: createLocalJWKSet(set) as JWTVerifyGetKey, certificates: certificatesIn(set) }
}

function certificatesIn({ keys }: JSONWebKeySet): string[] {
  const first = keys.map(({ x5c }) => (Array.isArray(x5c) ? x5c[0] : undefined))
  return first
    .filter((base64) => typeof base64 === 'string')
    .map((base64) => thumbprintOf(Buffer.from(base64, 'base64')))
}
