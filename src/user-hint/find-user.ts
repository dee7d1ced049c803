/** About whom: one of three kinds of hint becomes one user (VL-4). */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'
import type { Client } from '../client/client.ts'
import type { Clock } from '../clock.ts'
import { Refusal } from '../refusal.ts'
import type { User, UserHint, UserHooks } from './user.ts'

/** A hint as the client sent it. */
export type SentHint = Pick<UserHint, 'kind' | 'value'>

export type FindUser = (hint: SentHint, client: Client) => Promise<User>

export interface HintNeeds {
  users: UserHooks
  issuer: string
  /** Our own public keys, retired ones included: they bound how old an `id_token_hint` can be (SC-6). */
  publicKeys(): Promise<JSONWebKeySet>
  /** Which user a subject stands for: the user's id itself, unless the client knows users by names of its own. */
  userOfSubject(client: Client, subject: string): Promise<string | undefined>
  clock: Clock
}

/**
 * Seconds since it was issued that an ID token is still good as a hint. Its `exp` does not count: it says how long
 * the sign-in is fresh, not how long the user is the same (SC-3, SC-8).
 */
const oldestIdTokenHint = 180 * 24 * 3600

/** @throws {Refusal} `unknown_user_id`, `invalid_request`, or what the application's hook throws (AE-4) */
export function createFindUser(needs: HintNeeds): FindUser {
  return async (sent, client) => {
    const hint = sent.kind === 'id_token_hint' ? await readIdToken(sent, client, needs) : sent
    const user = await needs.users.findByHint(hint, client.metadata)
    // A hook in plain JavaScript may well answer undefined.
    if (!user || user.disabled) {
      throw new Refusal('unknown_user_id', 'the hint does not lead to a user', {
        detail: !user ? `no user for a ${sent.kind}` : `user ${user.id} is disabled`,
      })
    }
    return user
  }
}

/** Our own signature, our own issuer, and issued to the client that presents it (SC-4, SC-5, SC-6). */
async function readIdToken(sent: SentHint, client: Client, needs: HintNeeds): Promise<UserHint> {
  try {
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
    if (error instanceof Refusal) throw error
    throw new Refusal('invalid_request', 'id_token_hint is not an ID token that this provider issued to this client', {
      detail: `id_token_hint: ${error instanceof errors.JOSEError ? error.code : String(error)}`,
    })
  }
}

function refuseIfTooOld(payload: JWTPayload, now: number): void {
  if (payload.iat! < now / 1000 - oldestIdTokenHint) {
    throw new Refusal('invalid_request', 'id_token_hint was issued too long ago')
  }
}
