/** Verifies JWTs whose makers write null for a value that is not there. */
import {
  decodeProtectedHeader,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
  UnsecuredJWT,
} from 'jose'

export interface VerifiedJwt {
  header: { typ?: string }
  /** The claims, without those that are null. */
  claims: JWTPayload
}

/**
 * Verifies the signature of a JWT, and then its claims as jose does. A claim that is null counts as absent: libraries that
 * serialize a class or a dictionary write it for each unused member. The signature is verified over the JWT as received.
 *
 * @throws the errors of `jwtVerify`
 */
export async function verifyJwt(jwt: string, key: JWTVerifyGetKey, options: JWTVerifyOptions): Promise<VerifiedJwt> {
  const { header, claims } = await verifyWithNulls(jwt, key, options)
  if (!hasNull(claims)) return { header, claims }
  const present = Object.fromEntries(Object.entries(claims).filter(([, value]) => value !== null))
  // The signature is verified. jose can only check claims that are in a JWT, so they are put in one without a signature.
  return { header, claims: UnsecuredJWT.decode(new UnsecuredJWT(present).encode(), options).payload }
}

/** Claims that are null may still be among the claims. Then the other claims are not verified yet. */
async function verifyWithNulls(jwt: string, key: JWTVerifyGetKey, options: JWTVerifyOptions): Promise<VerifiedJwt> {
  try {
    const { protectedHeader, payload } = await jwtVerify(jwt, key, options)
    return { header: protectedHeader, claims: payload }
  } catch (error) {
    // jose checks the claims after the signature, so the claims in this error are signed.
    if (!(error instanceof errors.JWTClaimValidationFailed) || !hasNull(error.payload)) throw error
    return { header: decodeProtectedHeader(jwt), claims: error.payload }
  }
}

function hasNull(claims: JWTPayload): boolean {
  return Object.values(claims).includes(null)
}

/**
 * Returns the `typ` of a header in lower case and without `application/` (RFC 7515 §4.1.9), or undefined if it is absent or
 * null. A header can contain any type of JSON: a `typ` that is not a text is returned as an empty text.
 */
export function typeIn({ typ }: { typ?: unknown }): string | undefined {
  if (typ === undefined || typ === null) return undefined
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : ''
}
