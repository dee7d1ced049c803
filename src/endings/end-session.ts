/**
 * The end of the session a user is in, when they sign out: the provider's session, the grants and tokens it led to, and the
 * browser's push subscription, in one step. Where users sign in elsewhere there is only the app's token to end: the
 * session there is the other provider's.
 */

import { USER_REQUESTS, type UserKey } from '../ciba/authentication-request/user-announcement.ts'
import type { CurrentProvider } from '../openid-provider/openid-provider.ts'
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import { fingerprint } from '../platform/crypto.ts'
import type { SessionEndingStore } from './session-ending-store.ts'

/** What is known of the session: by any of it the rest is found. */
export interface SessionToEnd {
  /** The app's. */
  accessToken: string | undefined
  /** The id of the provider's session, as its cookie has it. */
  providerSession: string | undefined
  /** SHA-256 of the endpoint of this browser's push subscription. */
  pushEndpointHash: string | undefined
  /** The IP address it is ended from, for the audit, where it is known. */
  address: string | undefined
}

export interface EndSessionNeeds {
  provider: CurrentProvider
  store: SessionEndingStore
  userKey: UserKey
  clock: Clock
  audit: Audit
}

export type EndSession = (session: SessionToEnd) => Promise<void>

interface Bound {
  accountId?: string | undefined
  grantId?: string | undefined
  sessionUid?: string | undefined
}

interface ProviderSession {
  uid: string
  accountId?: string
  /** By client. A client whose refresh tokens the user allowed to outlive the session keeps its grant. */
  authorizations?: Record<string, { grantId?: string; persistsLogout?: boolean }>
}

/** The types of oidc-provider lack it. */
const evenIfSessionIsOver = { ignoreSessionBinding: true } as object

export function createEndSession({ provider, store, userKey, clock, audit }: EndSessionNeeds): EndSession {
  return async ({ accessToken, providerSession, pushEndpointHash, address }) => {
    const { AccessToken, Session } = provider()
    const token = accessToken && (await AccessToken.find(accessToken, evenIfSessionIsOver))
    const bound: Bound = token || {}
    const found = await Promise.all([
      providerSession === undefined ? undefined : Session.find(providerSession),
      bound.sessionUid === undefined ? undefined : Session.findByUid(bound.sessionUid),
    ])
    const sessions = found.flatMap((session) => (session as ProviderSession | undefined) ?? [])
    const users = [...new Set([bound, ...sessions].flatMap(({ accountId }) => accountId ?? []))]
    await store.end(
      {
        sessions: [...new Set([bound.sessionUid, ...sessions.map(({ uid }) => uid)])].flatMap(hashed),
        grants: [...new Set([bound.grantId, ...sessions.flatMap(grantsOf)])].flatMap(hashed),
        tokens: [accessToken].flatMap(hashed),
        endpoints: pushEndpointHash === undefined ? [] : [pushEndpointHash],
      },
      clock.now(),
      // The session's pages look, and find that it is over.
      users.map((userId) => ({ topic: USER_REQUESTS, key: userKey(userId) })),
    )
    for (const user of users) audit({ event: 'session.ended', user, address, by: 'user' })
  }
}

function grantsOf({ authorizations = {} }: ProviderSession): string[] {
  return Object.values(authorizations).flatMap(({ grantId, persistsLogout }) =>
    grantId === undefined || persistsLogout ? [] : [grantId],
  )
}

const hashed = (secret: string | undefined) => (secret === undefined ? [] : [fingerprint(secret)])
