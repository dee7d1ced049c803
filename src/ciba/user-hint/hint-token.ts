/** Verifies a `login_hint_token`: a JWT in which a trusted issuer identifies the user. */
import {
  decodeJwt,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
} from 'jose'
import type { Clock } from '../../platform/clock.ts'
import { isTooDeep } from '../../platform/http/form.ts'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { holdsOnlyStorable } from '../../platform/http/outside-text.ts'
import { Unavailable } from '../../platform/http/unavailable.ts'
import { keysIn } from '../../platform/jose/find-key.ts'
import { isPlainJws } from '../../platform/jose/jws.ts'
import type { KeySets } from '../../platform/jose/key-sets.ts'
import { typeIn, verifyJwt } from '../../platform/jose/verify-jwt.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { HintSubject } from '../../user/user.ts'

/** A trusted issuer of `login_hint_token`s. */
export interface TokenIssuer {
  /** The `iss` of the issuer's tokens. */
  issuer: string
  /** The public keys of the issuer. Exactly one of `jwks` and `jwksUri` is required. */
  jwks?: { keys: Record<string, unknown>[] }
  jwksUri?: string
  /** The `aud` that the issuer's tokens have for this server. Default: the issuer of this server. */
  audience?: string
  /** The signing algorithms of the issuer. Default: all accepted asymmetric algorithms. */
  algorithms?: string[]
  /**
   * The claim that identifies the user. Default: `sub`. `email` and `phone_number` are compared with the user's values
   * of that name in the directory, `preferred_username` with usernames. Any other claim must contain a user id.
   */
  subject?: string
}

export interface HintTokenNeeds {
  tokenIssuers: readonly TokenIssuer[]
  /** The issuer of this server, as the default of `TokenIssuer.audience`. */
  audience: string
  /** The accepted signing algorithms, all asymmetric. */
  algorithms: readonly string[]
  keySets: KeySets
  clock: Clock
}

/** The content of a verified token. */
export interface ReadToken {
  claims: JWTPayload
  subject: HintSubject
}

/** Seconds by which the clocks of the issuer and of this server may differ. */
const skew = 10
/** Maximum number of characters. A longer token is not decoded. */
const longestToken = 16_384
/** Accepted values of `typ`. `jwt` can be used for any JWT, the other two values only for a `login_hint_token`. */
const types = ['jwt', 'login-hint+jwt', 'login_hint_token+jwt']

/**
 * @param slot the slot of the call (`load-shedding.ts`), which is released while the call waits for the issuer's keys
 */
export type ReadHintToken = (token: string, slot?: Slot) => Promise<ReadToken>

/**
 * Returns the function that verifies a token. It throws an `OAuthError` with `expired_login_hint_token` if the token
 * has expired but passes all other checks, and with `invalid_request` for every other problem. It throws `Unavailable`
 * if the keys of the issuer cannot be fetched now.
 */
export function createReadHintToken(needs: HintTokenNeeds): ReadHintToken {
  const trusted = new Map(needs.tokenIssuers.map((each) => [each.issuer, { ...each, keys: keysOf(each, needs) }]))
  return async (token, slot) => {
    if (token.length > longestToken) throw refused(`it is longer than ${longestToken} characters`)
    if (!isPlainJws(token)) throw refused('not a JWT')
    const issuer = trusted.get(issuerNamedIn(token))
    if (issuer === undefined) throw refused('its issuer is not trusted')
    const claims = await verify(token, issuer, slot, needs)
    const claim = issuer.subject ?? 'sub'
    if (claims[claim] === undefined) throw refused(`the claim ${claim} is missing`)
    // The claims are checked, because even a trusted issuer may have copied unchecked input into them.
    if (!isSound(claims)) throw refused('a claim has characters that are not allowed, or is nested too deeply')
    return { claims, subject: { claim, value: claims[claim] } }
  }
}

type KeysFor = (slot: Slot | undefined) => JWTVerifyGetKey

function keysOf({ jwks, jwksUri }: TokenIssuer, { keySets }: HintTokenNeeds): KeysFor {
  if (jwksUri !== undefined) return (slot) => keySets.at(jwksUri, slot)
  const keys = keysIn(jwks as unknown as JSONWebKeySet)
  return () => keys
}

/** Reads the `iss` of a token that is not verified yet. It is only used to select the keys that verify the token. */
function issuerNamedIn(token: string): string {
  try {
    const type = typeIn(decodeProtectedHeader(token))
    if (type !== undefined && !types.includes(type)) throw new Error('another kind of JWT')
    return decodeJwt(token).iss ?? ''
  } catch (error) {
    throw refused(error instanceof Error ? error.message : 'not a JWT')
  }
}

async function verify(
  token: string,
  issuer: TokenIssuer & { keys: KeysFor },
  slot: Slot | undefined,
  { audience, algorithms, clock }: HintTokenNeeds,
): Promise<JWTPayload> {
  try {
    const { claims } = await verifyJwt(token, issuer.keys(slot), {
      issuer: issuer.issuer,
      audience: issuer.audience ?? audience,
      algorithms: [...algorithms].filter((each) => issuer.algorithms?.includes(each) ?? true),
      requiredClaims: ['exp', 'iat'],
      clockTolerance: skew,
      currentDate: new Date(clock.now()),
    })
    if (claims.iat! > clock.now() / 1000 + skew) throw new Error('iat lies in the future')
    return claims
  } catch (error) {
    if (error instanceof Unavailable) throw error
    // jose verifies the signature first and `exp` last. So only a token with a valid signature gets this error.
    if (error instanceof errors.JWTExpired) {
      throw new OAuthError('expired_login_hint_token', 'the login_hint_token has expired')
    }
    throw refused(error instanceof errors.JOSEError ? error.code : String(error))
  }
}

function isSound(claims: JWTPayload): boolean {
  return !isTooDeep(claims) && holdsOnlyStorable(claims)
}

function refused(detail: string): OAuthError {
  return new OAuthError('invalid_request', 'login_hint_token is not a valid token of a trusted issuer', {
    detail: `login_hint_token: ${detail}`,
  })
}
