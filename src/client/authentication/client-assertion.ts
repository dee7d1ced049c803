/**
 * `client_secret_jwt` and `private_key_jwt` (OpenID Connect Core §9, RFC 7523), with the audience rule of CIBA Core
 * §7.1.
 */
import { decodeJwt, errors, type JWTPayload, type JWTVerifyGetKey } from 'jose'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { Unavailable } from '../../platform/http/unavailable.ts'
import { isPlainJws } from '../../platform/jose/jws.ts'
import { typeIn, type VerifiedJwt, verifyJwt } from '../../platform/jose/verify-jwt.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { type Profile, secretSigning } from '../../platform/security-profile.ts'
import type { Client, ClientCredentials } from '../client.ts'
import { secretAad } from '../configured-clients.ts'
import { leastSecretLength } from '../metadata/client-secret-length.ts'
import { type AuthenticationFailure, authenticationFailed, type Claim } from './claim.ts'
import type { ClientKeys } from './client-keys.ts'
import type { UsedAssertionStore } from './used-jti-store.ts'

/** Resolves to what is wrong with the assertion, or to undefined if it is valid. */
export type VerifyAssertion = (
  assertion: string,
  client: Client,
  slot?: Slot,
) => Promise<AuthenticationFailure | undefined>

/** The only accepted `client_assertion_type` (RFC 7523 §2.2). */
export const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/** Allowed difference between the client's clock and our clock, in seconds. */
const skewSeconds = 10
/**
 * Maximum time until an assertion expires, in seconds. It is an hour, because some client libraries make assertions
 * with this lifetime, for example Authlib by default. A used assertion is stored until an hour after it expires, so
 * this maximum also limits how long used assertions are stored.
 */
const longestLifeSeconds = 3600
/** Maximum length of an assertion, in characters. A longer assertion is not decoded. */
const longestAssertion = 16_384

export interface AssertionNeeds {
  profile: Profile
  /**
   * The valid values of `aud`: the issuer, and every address at which clients authenticate. The `aud` of an assertion
   * must contain at least one of them.
   */
  audiences: string[]
  vault: Vault
  keys: ClientKeys
  accept: AcceptAssertion
  clock: Clock
}

/**
 * Resolves to what is wrong with an assertion whose signature was verified, or to undefined if the assertion is
 * accepted.
 */
export type AcceptAssertion = (assertion: VerifiedJwt, clientId: string) => Promise<string | undefined>

export interface AcceptanceNeeds {
  issuer: string
  /** All values that `aud` may have: the issuer, and every address at which clients authenticate. */
  audiences: readonly string[]
  /** Whether `aud` must be the issuer and nothing else, as draft-ietf-oauth-rfc7523bis and FAPI 2.0 require. */
  strictAudience: boolean
  used: UsedAssertionStore
  clock: Clock
}

/** Returns the client assertion that the form contains, or undefined if there is none. @throws {OAuthError} */
export function readAssertion({ form }: ClientCredentials): Claim | undefined {
  const assertion = form.get('client_assertion')
  const type = form.get('client_assertion_type')
  if (assertion === undefined && type === undefined) return undefined
  if (assertion === undefined || type !== ASSERTION_TYPE) {
    throw new OAuthError(
      'invalid_client',
      'client_assertion must be sent together with a client_assertion_type of jwt-bearer',
    )
  }
  return {
    clientId: subjectOf(assertion),
    couldBe: ['private_key_jwt', 'client_secret_jwt'],
    proof: assertion,
  }
}

/**
 * Returns a function that verifies an assertion: first the signature, `iss`, `sub` and the expiry, then all that
 * `accept` checks.
 */
export function createAssertionVerification(needs: AssertionNeeds): VerifyAssertion {
  return async (assertion, client, slot) => {
    let verified: VerifiedJwt
    try {
      verified = await verify(assertion, client, slot, needs)
    } catch (error) {
      // This error means that the client's keys cannot be fetched now, or that too many calls wait for them. It is not
      // reported as a failed authentication, because the assertion may be valid.
      if (error instanceof Unavailable) throw error
      return failureOf(error)
    }
    // This call is outside of the `try`, because an error of the database must not be reported as an invalid assertion.
    const reason = await needs.accept(verified, client.id)
    return reason === undefined ? undefined : { reason, isSigned: true }
  }
}

/** jose checks the claims after the signature, so an error about a claim shows that the signature is valid. */
function failureOf(error: unknown): AuthenticationFailure {
  if (error instanceof errors.JWTExpired) return { reason: 'exp has passed', isSigned: true }
  if (error instanceof errors.JWTClaimValidationFailed) return { reason: problemWithClaim(error), isSigned: true }
  const reason = `client assertion refused: ${error instanceof Error ? error.message : String(error)}`
  return { reason, isSigned: false }
}

function problemWithClaim({ claim, reason }: errors.JWTClaimValidationFailed): string {
  if (reason === 'missing') return `${claim} is missing`
  if (reason === 'invalid') return `${claim} is not a number`
  switch (claim) {
    case 'iss':
    case 'sub':
      return `${claim} must be the client_id`
    case 'aud':
      return 'aud does not name this server'
    case 'nbf':
      return 'nbf is in the future'
    default:
      return `${claim} is not valid`
  }
}

async function verify(
  assertion: string,
  client: Client,
  slot: Slot | undefined,
  needs: AssertionNeeds,
): Promise<VerifiedJwt> {
  if (!isPlainJws(assertion)) throw new Error('it is not in canonical base64url')
  return await verifyJwt(assertion, keyFor(client, slot, needs), {
    algorithms: algorithmsFor(client, needs.profile),
    issuer: client.id,
    subject: client.id,
    audience: needs.audiences,
    requiredClaims: ['exp', 'jti'],
    clockTolerance: skewSeconds,
    currentDate: new Date(needs.clock.now()),
  })
}

/**
 * Returns a function that checks `typ`, `aud`, the times and the `jti` of a verified assertion. An assertion is
 * accepted only once, even if it is sent to different endpoints (RFC 7523 §3). One SQL statement stores it as used, so
 * only one of two simultaneous uses is accepted. The record of a used assertion is kept for longer than the assertion
 * is valid.
 */
export function createAcceptAssertion(needs: AcceptanceNeeds): AcceptAssertion {
  const { used } = needs
  return async (assertion, clientId) => {
    const { header, claims } = assertion
    const wrong =
      problemWithType(header) ??
      problemWithAudience(claims, needs) ??
      problemWithTimes(claims, needs.clock.now() / 1000)
    if (wrong !== undefined) return wrong
    const { exp, jti } = claims
    if (typeof jti !== 'string' || jti === '') return 'jti must be a string that is not empty'
    const fresh = await used.use(clientId, jti, Math.ceil((exp! + skewSeconds) * 1000))
    return fresh ? undefined : 'client assertion was used before'
  }
}

/**
 * Accepted `typ` values: the media type of client assertions (draft-ietf-oauth-rfc7523bis §4), and the generic media
 * type of JWTs. A JWT of another kind that the same key signed, such as a request object, is not accepted as an
 * assertion (RFC 8725 §3.11).
 */
const assertionTypes = ['jwt', 'client-authentication+jwt']

function problemWithType(header: VerifiedJwt['header']): string | undefined {
  const type = typeIn(header)
  return type === undefined || assertionTypes.includes(type) ? undefined : 'typ is that of another kind of JWT'
}

/**
 * Every value of `aud` must identify this server. If `aud` also identified another server, that server could send the
 * assertion to this server and act as the client.
 */
function problemWithAudience({ aud }: JWTPayload, needs: AcceptanceNeeds): string | undefined {
  if (needs.strictAudience) return aud === needs.issuer ? undefined : 'aud must be the issuer and nothing else'
  const named = [aud ?? []].flat()
  if (named.length === 0) return 'aud is missing'
  return named.every((each) => needs.audiences.includes(each)) ? undefined : 'aud names another server'
}

function problemWithTimes({ exp, iat }: JWTPayload, now: number): string | undefined {
  if (typeof exp !== 'number' || exp > now + longestLifeSeconds + skewSeconds)
    return `exp is more than ${longestLifeSeconds} seconds from now`
  return iat !== undefined && iat > now + skewSeconds ? 'iat is in the future' : undefined
}

/**
 * Returns the algorithms that the client's registration allows. The `alg` of an assertion must be one of them (RFC 8725
 * §3.1).
 */
function algorithmsFor(client: Client, profile: Profile): string[] {
  const family =
    client.metadata.token_endpoint_auth_method === 'client_secret_jwt' ? secretSigning : profile.clientSigning
  const registered = client.metadata.token_endpoint_auth_signing_alg
  return registered === undefined ? [...family] : family.filter((algorithm) => algorithm === registered)
}

function keyFor(client: Client, slot: Slot | undefined, { vault, keys }: AssertionNeeds): JWTVerifyGetKey {
  if (client.metadata.token_endpoint_auth_method !== 'client_secret_jwt') return keys.of(client, slot)
  return async ({ alg }) => {
    if (client.secretSealed === undefined) throw new Error('no secret is stored for this client')
    const stored = vault.openStored(client.secretSealed, secretAad(client.id))
    if (stored === undefined) throw new Error('the stored secret of this client cannot be decrypted')
    const secret = new TextEncoder().encode(stored)
    // If the client has registered no algorithm, registration has checked the length of the secret for HS256 only. So
    // the length is checked here for the algorithm in use.
    if (secret.length < leastSecretLength(alg)) throw new Error(`the client secret is too short for ${alg}`)
    return secret
  }
}

/**
 * Returns the `sub` of an assertion that is not verified yet. It is used only to find the client whose keys verify the
 * assertion.
 */
function subjectOf(assertion: string): string {
  try {
    const { sub } = assertion.length > longestAssertion ? {} : decodeJwt(assertion)
    if (typeof sub === 'string' && sub !== '') return sub
  } catch {
    // If the assertion is not a JWT, the error is the same as for a JWT without `sub`.
  }
  throw new OAuthError('invalid_client', authenticationFailed, {
    detail: 'client_assertion is not a readable JWT',
  })
}
