/** Lets users list and end their sessions at this provider. */

import { sessionsEnded, type UserKey } from '../ciba/authentication-request/user-announcement.ts'
import type { MakeRoomForSession } from '../openid-provider/oidc-model-store.ts'
import type { CurrentProvider } from '../openid-provider/openid-provider.ts'
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import { fingerprint, newId } from '../platform/crypto.ts'
import { signOutLock } from '../user/token-validity-store.ts'
import { endingSessions } from './session-ending-store.ts'
import type { UserSessionStore } from './user-session-store.ts'

export interface UserSessionsNeeds {
  provider: CurrentProvider
  store: UserSessionStore
  userKey: UserKey
  clock: Clock
  audit: Audit
}

export type UserSessions = ReturnType<typeof createUserSessions>

/** Returns the functions by which users list and end their sessions. */
export function createUserSessions({ provider, store, userKey, clock, audit }: UserSessionsNeeds) {
  const announced = (userId: string) => sessionsEnded(userKey(userId))

  return {
    /**
     * Records that a session was used. Resolves to false if the session has ended. If the token belongs to no session
     * at this provider, records nothing and resolves to true.
     * @param sessionUid the `uid` of the session to which the access token of this call belongs
     * @param browser the name of the browser. The caller passes the name, because an application may know a more exact
     *   name than the `User-Agent` header contains
     */
    async note(sessionUid: string | undefined, browser: string): Promise<boolean> {
      const found = sessionUid === undefined ? undefined : await provider().Session.findByUid(sessionUid)
      if (found === undefined) return true
      const session = found as { uid: string; loginTs?: number }
      const now = clock.now()
      const signedInAt = session.loginTs === undefined ? now : session.loginTs * 1000
      return store.note({ id: newId(now), uidHash: fingerprint(session.uid), browser, signedInAt, now })
    },

    /**
     * Resolves to the user's sessions.
     * @param sessionUid the `uid` of the session to which the access token of this call belongs. In the list, only this
     *   session has `isCurrent: true`
     */
    async list(userId: string, sessionUid: string | undefined) {
      const sessions = await store.list(userId, clock.now())
      const ownHash = sessionUid === undefined ? undefined : fingerprint(sessionUid)
      return sessions.map((session) => ({ ...session, isCurrent: session.uidHash === ownHash }))
    },

    /** Ends one session. Resolves to whether this user had this session. */
    async end(userId: string, id: string, address: string): Promise<boolean> {
      const ended = await store.end(userId, id, clock.now(), announced(userId))
      if (ended) audit({ event: 'session.ended', user: userId, address, by: 'user', about: id })
      return ended
    },

    /** Ends all sessions of the user. */
    async endAll(userId: string, address: string): Promise<void> {
      await store.endAll(userId, clock.now(), announced(userId))
      audit({ event: 'session.ended', user: userId, address, by: 'user', outcome: 'everywhere' })
    },
  }
}

/** Returns the function that finds out which sessions of a user must end because a further session is stored. */
export function createMakeRoomForSession({
  store,
  userKey,
  clock,
  audit,
}: Omit<UserSessionsNeeds, 'provider'>): MakeRoomForSession {
  return async (userId, uidHash) => {
    const ended = await store.surplus(userId, uidHash, clock.now())
    if (ended.length === 0) return undefined
    return {
      also: endingSessions(
        ended.map(({ uidHash }) => uidHash),
        clock.now(),
      ),
      announce: sessionsEnded(userKey(userId)),
      lockKeys: [signOutLock(userId)],
      report: () => {
        for (const { id } of ended) audit({ event: 'session.ended', user: userId, about: id, outcome: 'too_many' })
      },
    }
  }
}
