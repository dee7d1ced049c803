/** Finds the user that a hint identifies. CIBA §7.1 defines three kinds of hints. */
import { errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'
import { isSameAddress } from '../../authorization-details/resources.ts'
import type { Client } from '../../client/client.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Slot } from '../../platform/http/load-shedding.ts'
import { keysIn } from '../../platform/jose/find-key.ts'
import { isPlainJws } from '../../platform/jose/jws.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { plainNumber } from '../../user/phone-number.ts'
import { readSubjectIdentifier, textOf } from '../../user/subject-identifier.ts'
import type { SubjectIdentifier, User, UserHint, UserHooks } from '../../user/user.ts'
import type { ReadHintToken } from './hint-token.ts'

/** A hint as the client sent it. */
export type SentHint = Pick<UserHint, 'kind' | 'value'>

/** What was found for a hint: a user who is not disabled, or no user. */
export type Sought =
  | { user: User }
  | {
      user: undefined
      /** The identifier in the hint in a normal form (`nameIn`). */
      named: string
      /** Why there is no user, for the log. */
      detail: string
    }

/**
 * Finds the user of a hint.
 *
 * @param slot the slot of the call (`load-shedding.ts`), which is released while the call waits for the keys of the
 *   hint's issuer
 * @param subjects the values of the claim `sub` that the client requests, if any. The user must have one of them
 */
export type SeekUser = (hint: SentHint, client: Client, slot?: Slot, subjects?: readonly unknown[]) => Promise<Sought>
export type FindUser = (hint: SentHint, client: Client, slot?: Slot) => Promise<User>

export interface HintNeeds {
  users: UserHooks
  issuer: string
  /**
   * Resolves to this server's public keys, including retired keys that are still stored. An `id_token_hint` is accepted
   * only if the key that signed it is among these keys. Called for each `id_token_hint`.
   */
  publicKeys(): Promise<JSONWebKeySet>
  /**
   * Resolves to the user id of a subject (`sub`). The user id and the subject differ only if the client has pairwise
   * subjects.
   */
  userOfSubject(client: Client, subject: string): Promise<string | undefined>
  /** Undefined if no issuer of `login_hint_token`s is configured. Then the hook gets the token without verification. */
  readHintToken: ReadHintToken | undefined
  clock: Clock
}

/**
 * Maximum age of an ID token that is sent as a hint, in seconds since `iat`. `exp` is ignored, because it limits how
 * long the sign-in is valid, not whom the token identifies.
 */
const oldestIdTokenHint = 180 * 24 * 3600

/**
 * Returns the function that finds the user of a hint. It throws an `OAuthError` with `invalid_request` or
 * `expired_login_hint_token`, or the error that the application's hook throws.
 */
export function createSeekUser(needs: HintNeeds): SeekUser {
  return async (sent, client, slot, subjects = []) => {
    const hint = await read(sent, client, slot, needs)
    const user = isDisproved(hint) ? null : await ask(hint, client, needs)
    const nobody = (detail: string) => ({ user: undefined, named: nameIn(hint), detail })
    if (user === null) return nobody(`no user for a ${sent.kind}`)
    if (user.disabled) return nobody(`user ${user.id} is disabled`)
    if (subjects.length > 0 && !(await hasSubject(user, subjects, client, needs))) {
      return nobody(`claims names another subject than the ${sent.kind}`)
    }
    return { user }
  }
}

/**
 * Whether the user has one of the subjects. The subjects are looked up one after the other, so that one call does not
 * use all connections to the database.
 */
async function hasSubject({ id }: User, subjects: readonly unknown[], client: Client, needs: HintNeeds) {
  for (const subject of subjects) if ((await needs.userOfSubject(client, String(subject))) === id) return true
  return false
}

/**
 * Returns the function that finds the user of a hint for callers that may learn that a user does not exist. If there is
 * no user, the function throws `unknown_user_id`.
 */
export function createFindUser(seekUser: SeekUser): FindUser {
  return async (sent, client, slot) => {
    const sought = await seekUser(sent, client, slot)
    if (sought.user === undefined) throw unknownUser(sought.detail)
    return sought.user
  }
}

/** @param detail for the log, not for the client */
export function unknownUser(detail: string): OAuthError {
  return new OAuthError('unknown_user_id', 'the hint does not identify a user', { detail })
}

async function read(sent: SentHint, client: Client, slot: Slot | undefined, needs: HintNeeds): Promise<UserHint> {
  if (sent.kind === 'id_token_hint') return readIdToken(sent, client, needs)
  if (sent.kind === 'login_hint_token' && needs.readHintToken !== undefined) {
    return { ...sent, ...(await needs.readHintToken(sent.value, slot)) }
  }
  const identifier = sent.kind === 'login_hint' ? readSubjectIdentifier(sent.value) : undefined
  return identifier === undefined ? sent : { ...sent, identifier: await withUserId(identifier, client, needs) }
}

/**
 * If the identifier contains a subject (`sub`) of this server, replaces the subject by the user id. Some clients add a
 * slash at the end of the issuer. The slash is ignored. The identifiers in `aliases` are handled one after the other,
 * so that one call does not use all connections to the database.
 */
async function withUserId(identifier: SubjectIdentifier, client: Client, needs: HintNeeds): Promise<SubjectIdentifier> {
  if (identifier.format === 'aliases') {
    const identifiers: SubjectIdentifier[] = []
    for (const each of identifier.identifiers as SubjectIdentifier[]) {
      identifiers.push(await withUserId(each, client, needs))
    }
    return { ...identifier, identifiers }
  }
  if (identifier.format !== 'iss_sub' || !isSameAddress(String(identifier.iss), needs.issuer)) return identifier
  const sub = await needs.userOfSubject(client, String(identifier.sub))
  return { ...identifier, iss: needs.issuer, sub: sub ?? '' }
}

/**
 * Whether the issuer of the hint says that the e-mail address or phone number is not verified. If so, the address or
 * number may belong to another person.
 */
function isDisproved({ claims, subject }: UserHint): boolean {
  const verified = subject && claims?.[`${subject.claim}_verified`]
  // Some issuers write a string instead of a boolean.
  return verified === false || verified === 'false'
}

/** Calls the hook `findByHint`. If there is no user, the hook may return null or throw `unknown_user_id`. */
async function ask(hint: UserHint, client: Client, { users }: HintNeeds): Promise<User | null> {
  try {
    return await users.findByHint(hint, client.metadata)
  } catch (error) {
    if (error instanceof OAuthError && error.code === 'unknown_user_id') return null
    throw error
  }
}

/**
 * Returns the identifier in a hint, in a normal form: different spellings of the same identifier give the same result.
 */
function nameIn({ kind, value, claims, subject, identifier }: UserHint): string {
  const plain = (identifier && `${textOf(identifier)} ${identifier.iss}`) || value
  const name = subject?.value ?? (kind === 'id_token_hint' && claims?.sub ? claims.sub : plain)
  // `JSON.stringify` is used, because `String` throws for some JSON objects, for example for `{"toString": 1}`.
  const spelled = typeof name === 'string' ? name : JSON.stringify(name)
  return plainNumber(spelled) ?? spelled.toLowerCase()
}

/**
 * Verifies an `id_token_hint`. It must be an ID token that this server has signed, as its issuer, for the client that
 * sends it.
 */
async function readIdToken(sent: SentHint, client: Client, needs: HintNeeds): Promise<UserHint> {
  try {
    if (!isPlainJws(sent.value)) throw new Error('not a JWT')
    const keys = keysIn(await needs.publicKeys())
    const { payload, protectedHeader } = await jwtVerify(sent.value, keys, {
      issuer: needs.issuer,
      audience: client.id,
      requiredClaims: ['sub', 'iat'],
      algorithms: ['ES256', 'RS256', 'PS256'],
      // With this date, jose accepts every `exp`. `refuseIfTooOld` checks `iat` instead.
      currentDate: new Date(0),
    })
    // Access tokens and logout tokens have other values of `typ`. An ID token has no `typ`, or "JWT".
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
