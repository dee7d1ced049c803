/**
 * Sign-out: ends the current session of a user. One transaction removes the session at this provider, its grants and
 * tokens, and the push subscription of the browser. If users sign in at another provider, only the access token of the
 * consent app and the push subscription are removed. The session at the other provider does not end.
 */

import { sessionsEnded, type UserKey } from '../ciba/authentication-request/user-announcement.ts'
import type { CurrentProvider } from '../openid-provider/openid-provider.ts'
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import { fingerprint } from '../platform/crypto.ts'
import type { SessionEndingStore } from './session-ending-store.ts'

/**
 * The session that ends, as far as the caller knows it. Either `accessToken` or `providerSession` is enough to find the
 * session, its grants and its tokens.
 */
export interface SessionToEnd {
  /** The access token of the consent app. */
  accessToken: string | undefined
  /** The id of the session at this provider, from its cookie. */
  providerSession: string | undefined
  /** SHA-256 of the endpoint of this browser's push subscription. */
  pushEndpointHash: string | undefined
  /** The IP address of the caller, for the audit, if known. */
  address: string | undefined
}

export interface EndSessionNeeds {
  provider: CurrentProvider
  store: SessionEndingStore
  userKey: UserKey
  clock: Clock
  audit: Audit
}

/**
 * Ends the session, and resolves when the transaction is committed. Sessions, tokens and subscriptions that do not
 * exist any more are skipped.
 */
export type EndSession = (session: SessionToEnd) => Promise<void>

interface Bound {
  accountId?: string | undefined
  grantId?: string | undefined
  sessionUid?: string | undefined
}

interface ProviderSession {
  uid: string
  accountId?: string
  /**
   * The grants that belong to the session, by client id. A grant with `persistsLogout` is not removed, because the user
   * has allowed refresh tokens that stay valid after the session.
   */
  authorizations?: Record<string, { grantId?: string; persistsLogout?: boolean }>
}

/** Finds a token even if its session has ended. The types of oidc-provider lack this option. */
const evenIfSessionIsOver = { ignoreSessionBinding: true } as object

/** Returns the function that ends a session and writes the audit event. */
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
        users,
      },
      clock.now(),
      // When open pages receive this announcement, they check their session and find that it has ended.
      users.flatMap((userId) => sessionsEnded(userKey(userId))),
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
