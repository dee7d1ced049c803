/** Verifies JWTs. A claim that is null counts as absent. */
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
 * Verifies the signature of a JWT as received, and then checks its claims with the rules of jose. There is one
 * exception to these rules: a claim that is null counts as absent. The reason is that libraries that serialize a class
 * or a dictionary write null for each unused member.
 *
 * @throws the errors of `jwtVerify`
 */
export async function verifyJwt(jwt: string, key: JWTVerifyGetKey, options: JWTVerifyOptions): Promise<VerifiedJwt> {
  const { header, claims } = await verifyWithNulls(jwt, key, options)
  if (!hasNull(claims)) return { header, claims }
  const present = Object.fromEntries(Object.entries(claims).filter(([, value]) => value !== null))
  // The signature is already verified. jose can check only claims of a JWT, so the claims that are not null are put
  // into a new JWT without a signature, and checked there.
  return { header, claims: UnsecuredJWT.decode(new UnsecuredJWT(present).encode(), options).payload }
}

/** Verifies the signature. If one of the returned claims is null, the other claims are possibly not checked yet. */
async function verifyWithNulls(jwt: string, key: JWTVerifyGetKey, options: JWTVerifyOptions): Promise<VerifiedJwt> {
  try {
    const { protectedHeader, payload } = await jwtVerify(jwt, key, options)
    return { header: protectedHeader, claims: payload }
  } catch (error) {
    // jose checks the claims only if the signature is valid, so the claims in this error are covered by a valid
    // signature.
    if (!(error instanceof errors.JWTClaimValidationFailed) || !hasNull(error.payload)) throw error
    return { header: decodeProtectedHeader(jwt), claims: error.payload }
  }
}

function hasNull(claims: JWTPayload): boolean {
  return Object.values(claims).includes(null)
}

/**
 * Returns the `typ` of a header in lower case and without `application/` (RFC 7515 §4.1.9), or undefined if it is
 * absent or null. A header can contain any type of JSON: a `typ` that is not a text is returned as an empty text.
 */
export function typeIn({ typ }: { typ?: unknown }): string | undefined {
  if (typ === undefined || typ === null) return undefined
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : ''
}
