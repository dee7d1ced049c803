/** Verifies signed authentication requests (CIBA Core §7.1.1): JWTs that contain all parameters. */
import { decodeProtectedHeader, errors, type JWTPayload } from 'jose'
import type { ClientKeys } from '../../client/authentication/client-keys.ts'
import type { Client } from '../../client/client.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { Unavailable } from '../../platform/http/unavailable.ts'
import { isPlainJws } from '../../platform/jose/jws.ts'
import { typeIn, verifyJwt } from '../../platform/jose/verify-jwt.ts'
import { OAuthError } from '../../platform/oauth-error.ts'

export interface SignedRequestNeeds {
  issuer: string
  /** The client's registered public keys. A key in the header of the JWT is never used. */
  keysOf: ClientKeys['of']
  /**
   * Marks the `jti` of a request as used, on all nodes, until `expiresAt`. Resolves to whether this was its first use.
   */
  useOnce(clientId: string, jti: string, expiresAt: number): Promise<boolean>
  clock: Clock
}

export type SignedClaims = Readonly<Record<string, unknown>>

/**
 * @param slot the slot of the call (`load-shedding.ts`), which is released while the call waits for the client's keys
 */
export type ReadSignedRequest = (jwt: string, client: Client, slot?: Slot) => Promise<SignedClaims>

/** Seconds by which the clocks of the client and of this server may differ. */
const skew = 10
/**
 * Maximum number of seconds from `nbf` to `exp`, and from `nbf` to the current time (FAPI-CIBA §5.2.2). This limits how
 * long a captured request can be used.
 */
const longestLife = 3600
/** Maximum number of characters. A longer JWT is not decoded. */
const longestRequest = 16_384

/**
 * Accepted values of `typ`. `jwt` can be used for any JWT, `oauth-authz-req+jwt` only for a signed request (RFC 9101
 * §10.8).
 */
const types = ['jwt', 'oauth-authz-req+jwt']

/** Claims about the JWT itself (RFC 7519 §4.1). They are not parameters of the authentication request. */
const registeredClaims = ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti']

/**
 * Returns a function that verifies a signed request and resolves to its parameters, without the registered claims of
 * JWT and without members that are null. The `jti` is marked as used after all other checks, so that an invalid request
 * does not use up a `jti`.
 *
 * The function throws an `OAuthError` with `invalid_request` for every problem of the JWT, and `Unavailable` if the
 * keys of the client cannot be fetched now.
 */
export function createReadSignedRequest(needs: SignedRequestNeeds): ReadSignedRequest {
  return async (jwt, client, slot) => {
    const algorithm = client.metadata.backchannel_authentication_request_signing_alg
    if (algorithm === undefined) throw refused('this client is not registered for signed requests')
    if (jwt.length > longestRequest) throw refused(`it is longer than ${longestRequest} characters`)
    if (jwt.split('.').length === 5) throw refused('encrypted requests are not supported')
    if (!isPlainJws(jwt)) throw refused('it is not a JWT')
    refuseOtherKinds(jwt)

    const claims = await verify(jwt, algorithm, client, slot, needs)
    refuseUnlessAskedNow(claims, needs.clock.now() / 1000)
    if (claims.sub === client.id) throw refused('a client assertion is not an authentication request')
    const parameters = parametersIn(claims)
    for (const name of ['request', 'request_uri']) {
      if ((parameters[name] ?? '') !== '') throw refused(`it must not contain ${name}`)
    }
    const first = await needs.useOnce(client.id, claims.jti, Math.ceil((claims.exp + skew) * 1000))
    if (!first) throw refused('this jti was used before')
    return parameters
  }
}

function parametersIn(claims: RequestClaims): SignedClaims {
  return Object.fromEntries(Object.entries(claims).filter(([name]) => !registeredClaims.includes(name)))
}

/** Refuses a JWT of another kind. A JWT is accepted if `typ` is missing, or is one of `types`. */
function refuseOtherKinds(jwt: string): void {
  const type = typeIn(readHeader(jwt))
  if (type !== undefined && !types.includes(type)) throw refused('its typ is that of another kind of JWT')
}

function readHeader(jwt: string) {
  try {
    return decodeProtectedHeader(jwt)
  } catch {
    throw refused('it is not a JWT')
  }
}

interface RequestClaims extends JWTPayload {
  exp: number
  iat: number
  nbf: number
  jti: string
}

async function verify(
  jwt: string,
  algorithm: string,
  client: Client,
  slot: Slot | undefined,
  { issuer, keysOf, clock }: SignedRequestNeeds,
): Promise<RequestClaims> {
  try {
    const { claims } = await verifyJwt(jwt, keysOf(client, slot), {
      algorithms: [algorithm],
      issuer: client.id,
      audience: issuer,
      requiredClaims: ['exp', 'iat', 'nbf', 'jti'],
      clockTolerance: skew,
      currentDate: new Date(clock.now()),
    })
    return claims as RequestClaims
  } catch (error) {
    if (error instanceof Unavailable) throw error
    throw refused(reasonOf(error), error)
  }
}

function refuseUnlessAskedNow({ exp, iat, nbf, jti }: RequestClaims, now: number): void {
  if (typeof jti !== 'string' || jti === '') throw refused('jti must be a string that is not empty')
  if (![exp, iat, nbf].every(Number.isFinite)) throw refused('exp, iat and nbf must be numbers')
  if (iat > now + skew) throw refused('iat is in the future')
  if (nbf < now - longestLife) throw refused('nbf is more than 60 minutes in the past')
  if (exp - nbf > longestLife) throw refused('exp must be at most 60 minutes after nbf')
}

/** Returns why a JWT is refused, as a text for the client's developer. The text contains no value from the JWT. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'it has expired'
  if (error instanceof errors.JWTClaimValidationFailed) {
    const problem = error.reason === 'missing' ? 'is missing' : 'is not acceptable'
    return `its claim ${error.claim} ${problem}`
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return 'it is not signed with the registered algorithm'
  if (error instanceof errors.JWKSNoMatchingKey) return 'none of the registered keys matches its header'
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'its signature does not verify'
  return 'it is not a JWT that can be verified with the registered keys'
}

function refused(reason: string, cause?: unknown): OAuthError {
  return new OAuthError('invalid_request', `request: ${reason}`, {
    ...(cause !== undefined && { detail: cause instanceof Error ? cause.message : String(cause) }),
  })
}
