/**
 * Watches the pending requests of users with open pages. Each change is announced with the key of the user, and causes
 * one read with the access token of one of the user's pages. If the read shows that the pending requests have changed,
 * all pages of the user are notified. If several changes are announced during a read, one further read covers all of
 * them.
 */
import type { Log } from '../platform/log.ts'
import type { DeviceApi } from './device-api.ts'

/** An open page of a user. */
export interface WatchingPage {
  /** An access token for the user's requests. */
  accessToken: string
  /** Called if the pending requests have changed: the page should be fetched again. */
  changed(): void
  /** Called if the token is no longer valid or the read failed. After that, `changed` and `end` are not called again. */
  end(): void
}

export interface RequestWatch {
  /**
   * Adds an open page.
   * @returns a function that removes the page
   */
  add(userKey: string, page: WatchingPage): () => void
  /** Stops listening for changes. */
  close(): void
}

export interface RequestWatchNeeds {
  /**
   * Calls `listener` with the key of each user whose requests have changed, or with '' if changes for any user may have been
   * missed. Returns a function that removes `listener`.
   */
  onChange(listener: (userKey: string) => void): () => void
  waiting: DeviceApi['waiting']
  log: Log
}

/**
 * Maximum number of reads at the same time. If announcements may have been missed, the requests of all users must be
 * read.
 */
const looksAtOnce = 8

interface WatchedUser {
  pages: Set<WatchingPage>
  /** The ids of the requests that were pending at the last read. */
  waiting: string | undefined
  isLookedAt: boolean
}

export function createRequestWatch({ onChange, waiting, log }: RequestWatchNeeds): RequestWatch {
  const users = new Map<string, WatchedUser>()
  /** Users whose requests must be read, in this order. */
  const due = new Set<WatchedUser>()
  let underWay = 0

  const stopListening = onChange((userKey) => {
    const changed = userKey === '' ? users.values() : [users.get(userKey)]
    for (const user of changed) if (user) due.add(user)
    lookAtDue()
  })

  function lookAtDue(): void {
    for (const user of due) {
      if (underWay >= looksAtOnce) return
      if (user.isLookedAt) continue
      due.delete(user)
      void lookAt(user)
    }
  }

  async function lookAt(user: WatchedUser): Promise<void> {
    underWay += 1
    user.isLookedAt = true
    try {
      await look(user)
    } catch (error) {
      log.warn({ event: 'consent_app.events_failed', error })
      // The pages reconnect by themselves, which causes another read.
      for (const page of user.pages) page.end()
    }
    user.isLookedAt = false
    underWay -= 1
    lookAtDue()
  }

  /**
   * Reads the pending requests with the first valid token. A page whose token is not valid is closed; the other pages
   * stay open.
   */
  async function look(user: WatchedUser): Promise<void> {
    for (const page of user.pages) {
      const { status, body } = await waiting(page.accessToken)
      if (status === 401 || status === 403) {
        page.end()
        continue
      }
      if (status !== 200) throw new Error(`the device API answered ${status}`)
      const before = user.waiting
      user.waiting = body.requests.map(({ request_id }) => request_id).join()
      if (before !== undefined && before !== user.waiting) for (const each of user.pages) each.changed()
      return
    }
  }

  return {
    add(userKey, page) {
      const user = users.get(userKey) ?? { pages: new Set(), waiting: undefined, isLookedAt: false }
      users.set(userKey, user)
      user.pages.add(page)
      // The first page of a user causes a read, to which later reads are compared. Further pages fetch their content when
      // their streams open.
      if (user.pages.size === 1) {
        due.add(user)
        lookAtDue()
      }
      return () => {
        user.pages.delete(page)
        if (user.pages.size > 0) return
        due.delete(user)
        if (users.get(userKey) === user) users.delete(userKey)
      }
    },
    close: stopListening,
  }
}
