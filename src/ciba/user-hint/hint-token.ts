/** A `login_hint_token`: a JWT in which somebody the operator trusts says who is meant (SC-1). */
import {
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose'
import type { Clock } from '../../platform/clock.ts'
import { isTooDeep } from '../../platform/http/form.ts'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { holdsOnlyStorable } from '../../platform/http/outside-text.ts'
import { Overloaded } from '../../platform/http/unavailable.ts'
import { isPlainJws } from '../../platform/jose/jws.ts'
import type { KeySets } from '../../platform/jose/key-sets.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { HintSubject } from '../../user/user.ts'

/** Somebody whose word is good for who a user is. */
export interface TokenIssuer {
  /** The `iss` of its tokens. */
  issuer: string
  /** Its public keys, or where they are. Exactly one of the two. */
  jwks?: { keys: Record<string, unknown>[] }
  jwksUri?: string
  /** What it calls this server in `aud`: this server's issuer unless told. */
  audience?: string
  /** What it signs with: any asymmetric algorithm unless told. */
  algorithms?: string[]
  /**
   * The claim that says who: `sub` unless told. `email` and `phone_number` are compared with what the directory knows
   * by that name, `preferred_username` with its usernames; any other claim holds a user's id.
   */
  subject?: string
}

export interface HintTokenNeeds {
  tokenIssuers: readonly TokenIssuer[]
  /** This server's issuer. */
  audience: string
  /** What may be signed with. Never a shared secret. */
  algorithms: readonly string[]
  keySets: KeySets
  clock: Clock
}

export interface ReadToken {
  claims: JWTPayload
  subject: HintSubject
}

/** Seconds that two clocks may be apart. */
const skew = 10
/** Characters; a longer token is not even decoded (JO-4). */
const longestToken = 16_384
/** A type that names nothing in particular, or this very kind. Any other names another kind of JWT (JO-2). */
const types = ['jwt', 'login-hint+jwt', 'login_hint_token+jwt']

/** @param slot of the call that may have to wait for the issuer's keys */
export type ReadHintToken = (token: string, slot?: Slot) => Promise<ReadToken>

/** @throws {OAuthError} `expired_login_hint_token` if that is all that is wrong with it, else `invalid_request` (AE-4) */
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
    // Its issuer is trusted to know who is meant, not to have checked what it was told.
    if (!isSound(claims)) throw refused('a claim has characters that are not allowed, or is nested too deeply')
    return { claims, subject: { claim, value: claims[claim] } }
  }
}

type KeysFor = (slot: Slot | undefined) => JWTVerifyGetKey

function keysOf({ jwks, jwksUri }: TokenIssuer, { keySets }: HintTokenNeeds): KeysFor {
  if (jwksUri !== undefined) return (slot) => keySets.at(jwksUri, slot)
  const keys = createLocalJWKSet(jwks as unknown as JSONWebKeySet) as JWTVerifyGetKey
  return () => keys
}

/** Only to choose the keys: nothing in it counts before it has been verified with them. */
function issuerNamedIn(token: string): string {
  try {
    const { typ } = decodeProtectedHeader(token)
    const kind = typ?.toLowerCase().replace(/^application\//, '')
    if (kind !== undefined && !types.includes(kind)) throw new Error('another kind of JWT')
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
    const { payload } = await jwtVerify(token, issuer.keys(slot), {
      issuer: issuer.issuer,
      audience: issuer.audience ?? audience,
      algorithms: [...algorithms].filter((each) => issuer.algorithms?.includes(each) ?? true),
      requiredClaims: ['exp', 'iat'],
      clockTolerance: skew,
      currentDate: new Date(clock.now()),
    })
    if (payload.iat! > clock.now() / 1000 + skew) throw new Error('iat lies in the future')
    return payload
  } catch (error) {
    if (error instanceof Overloaded) throw error
    // jose looks at the signature first and at `exp` last: whoever hears this made the token.
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
