/** Finds the key that verifies a signature. */
import {
  createLocalJWKSet,
  errors,
  type FlattenedJWSInput,
  flattenedVerify,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
} from 'jose'

/**
 * Maximum number of keys that are tried for one signature. A client that replaces its keys has two or three. Without
 * this limit, checking one forged signature for a client with a hundred keys would take a hundred verifications.
 */
const mostTried = 20

/**
 * Returns a function that finds the key of a signature in a key set. Several keys match the header of the signature if
 * the client's keys have no `kid`, or the same `kid`. Then each of them is tried, up to `mostTried`; oidc-provider also
 * tries each of them at its endpoints. A `kid` in the header that is null or empty counts as absent.
 *
 * The function throws `JWKSNoMatchingKey` if no key matches the header, and `JWSSignatureVerificationFailed` if several
 * keys match and none of them verifies the signature.
 */
export function keysIn(jwks: JSONWebKeySet): JWTVerifyGetKey {
  const find = createLocalJWKSet(jwks)
  return async (sent, token) => {
    const { kid: _, ...unnamed } = sent
    const header = namesKey(sent) ? sent : unnamed
    try {
      return await find(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
      let tried = 0
      for await (const key of error) {
        if (await verifies(key, header, token)) return key
        if (++tried === mostTried) break
      }
      throw new errors.JWSSignatureVerificationFailed()
    }
  }
}

/**
 * Returns whether the header of a signature has a `kid`. Some libraries write null or an empty text if there is none.
 */
export function namesKey({ kid }: { kid?: unknown }): boolean {
  return kid !== undefined && kid !== null && kid !== ''
}

/**
 * Finds a key with `find`, and verifies the signature with this key. This is needed because `find` itself verifies the
 * signature only if several keys match.
 */
export async function findVerifyingKey(
  find: JWTVerifyGetKey,
  ...[header, token]: Parameters<JWTVerifyGetKey>
): Promise<Awaited<ReturnType<JWTVerifyGetKey>>> {
  const key = await find(header, token)
  if (await verifies(key, header, token)) return key
  throw new errors.JWSSignatureVerificationFailed()
}

async function verifies(
  key: Awaited<ReturnType<JWTVerifyGetKey>>,
  { alg }: { alg: string },
  token: FlattenedJWSInput,
): Promise<boolean> {
  try {
    await flattenedVerify(token, key, { algorithms: [alg] })
    return true
  } catch {
    // The signature was made with another key, or this key cannot be used, for example because it is too short.
    return false
  }
}
