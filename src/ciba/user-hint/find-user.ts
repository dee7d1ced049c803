/** About whom: one of three kinds of hint becomes one user (VL-4). */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'
import type { Client } from '../../client/client.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { isPlainJws } from '../../platform/jose/jws.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { User, UserHint, UserHooks } from '../../user/user.ts'
import type { ReadHintToken } from './hint-token.ts'

/** A hint as the client sent it. */
export type SentHint = Pick<UserHint, 'kind' | 'value'>

/** Whom a hint leads to: a user who can be asked, or nobody. */
export type Sought =
  | { user: User }
  | {
      user: undefined
      /** Whom it names, the same in whatever letters and in each token: enough to know the same nobody again. */
      named: string
      /** For the log. */
      detail: string
    }

/** @param slot of the call that may have to wait for the keys of a hint */
export type SeekUser = (hint: SentHint, client: Client, slot?: Slot) => Promise<Sought>
export type FindUser = (hint: SentHint, client: Client, slot?: Slot) => Promise<User>

export interface HintNeeds {
  users: UserHooks
  issuer: string
  /** Our own public keys, retired ones included: they bound how old an `id_token_hint` can be (SC-6). Asked each time. */
  publicKeys(): Promise<JSONWebKeySet>
  /** Which user a subject stands for: the user's id itself, unless the client knows users by names of its own. */
  userOfSubject(client: Client, subject: string): Promise<string | undefined>
  /** Nothing where no issuer of `login_hint_token`s is trusted: then a token goes to the users' hook as it is. */
  readHintToken: ReadHintToken | undefined
  clock: Clock
}

/**
 * Seconds since it was issued that an ID token is still good as a hint. Its `exp` does not count: it says how long
 * the sign-in is fresh, not how long the user is the same (SC-3, SC-8).
 */
const oldestIdTokenHint = 180 * 24 * 3600

/** @throws {OAuthError} `invalid_request`, `expired_login_hint_token`, or what the application's hook throws (AE-4) */
export function createSeekUser(needs: HintNeeds): SeekUser {
  return async (sent, client, slot) => {
    const hint = await read(sent, client, slot, needs)
    const user = isDisproved(hint) ? null : await ask(hint, client, needs)
    // A hook in plain JavaScript may well answer undefined.
    if (!user) return { user: undefined, named: nameIn(hint), detail: `no user for a ${sent.kind}` }
    if (user.disabled) return { user: undefined, named: user.id, detail: `user ${user.id} is disabled` }
    return { user }
  }
}

/** For whoever may know that there is nobody. @throws {OAuthError} `unknown_user_id` too */
export function createFindUser(seekUser: SeekUser): FindUser {
  return async (sent, client, slot) => {
    const sought = await seekUser(sent, client, slot)
    if (sought.user === undefined) throw unknownUser(sought.detail)
    return sought.user
  }
}

export function unknownUser(detail: string): OAuthError {
  return new OAuthError('unknown_user_id', 'the hint does not identify a user', { detail })
}

async function read(sent: SentHint, client: Client, slot: Slot | undefined, needs: HintNeeds): Promise<UserHint> {
  if (sent.kind === 'id_token_hint') return readIdToken(sent, client, needs)
  if (sent.kind === 'login_hint_token' && needs.readHintToken !== undefined) {
    return { ...sent, ...(await needs.readHintToken(sent.value, slot)) }
  }
  return sent
}

/** An address or number that its issuer has not verified may be anybody's. */
function isDisproved({ claims, subject }: UserHint): boolean {
  const verified = subject && claims?.[`${subject.claim}_verified`]
  // Some write it as a text.
  return verified === false || verified === 'false'
}

/** A hook may say in the standard's words that there is nobody. */
async function ask(hint: UserHint, client: Client, { users }: HintNeeds): Promise<User | null> {
  try {
    return await users.findByHint(hint, client.metadata)
  } catch (error) {
    if (error instanceof OAuthError && error.code === 'unknown_user_id') return null
    throw error
  }
}

function nameIn({ kind, value, claims, subject }: UserHint): string {
  const name = subject?.value ?? (kind === 'id_token_hint' && claims?.sub ? claims.sub : value)
  // Not every object of JSON can become a text by itself.
  return (typeof name === 'string' ? name : JSON.stringify(name)).toLowerCase()
}

/** Our own signature, our own issuer, and issued to the client that presents it (SC-4, SC-5, SC-6). */
async function readIdToken(sent: SentHint, client: Client, needs: HintNeeds): Promise<UserHint> {
  try {
    if (!isPlainJws(sent.value)) throw new Error('not a JWT')
    const keys = createLocalJWKSet(await needs.publicKeys())
    const { payload, protectedHeader } = await jwtVerify(sent.value, keys, {
      issuer: needs.issuer,
      audience: client.id,
      requiredClaims: ['sub', 'iat'],
      algorithms: ['ES256', 'RS256', 'PS256'],
      // The age is judged below by iat; this keeps the library from judging it by exp.
      currentDate: new Date(0),
    })
    // Access and logout tokens carry a type of their own; an ID token has none, or the plain one (JO-2).
    if (!['jwt', undefined].includes(protectedHeader.typ?.toLowerCase())) throw new Error('another kind of JWT')
    refuseIfTooOld(payload, needs.clock.now())
    const sub = await needs.userOfSubject(client, payload.sub!)
    return { ...sent, claims: { ...payload, sub: sub ?? '' } }
  } catch (error) {
    if (error instanceof OAuthError) throw error
    throw new OAuthError(
      'invalid_request',
      'id_token_hint is not an ID token that this provider issued to this client',
      {
        detail: `id_token_hint: ${error instanceof errors.JOSEError ? error.code : String(error)}`,
      },
    )
  }
}

function refuseIfTooOld(payload: JWTPayload, now: number): void {
  if (payload.iat! < now / 1000 - oldestIdTokenHint) {
    throw new OAuthError('invalid_request', 'id_token_hint was issued too long ago')
  }
}
