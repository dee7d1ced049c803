/**
 * Watches what waits for the users whose pages are open. A change is announced by user: it costs one look, with the
 * token of one of that user's pages, and its result is told to all of them. Changes that come while a look is under way
 * share the next one.
 */
import type { Log } from '../platform/log.ts'
import type { DeviceApi } from './device-api.ts'

export interface WatchingPage {
  /** Good for the user's requests. */
  accessToken: string
  /** What waits has changed: the page fetches it itself. */
  changed(): void
  /** The page's token is good no longer, or nothing could be learned. Its last call. */
  end(): void
}

export interface RequestWatch {
  /** @returns how to stop */
  add(userKey: string, page: WatchingPage): () => void
  /** Stops listening for changes. */
  close(): void
}

export interface RequestWatchNeeds {
  /** Hears of each change, by the key of its user; '' means that changes may have been missed. Returns how to stop. */
  onChange(listener: (userKey: string) => void): () => void
  waiting: DeviceApi['waiting']
  log: Log
}

/** Looks under way at the same time. After a gap in the announcements all users are due at once. */
const looksAtOnce = 8

interface WatchedUser {
  pages: Set<WatchingPage>
  /** The ids of what waited at the last look. */
  waiting: string | undefined
  isLookedAt: boolean
}

export function createRequestWatch({ onChange, waiting, log }: RequestWatchNeeds): RequestWatch {
  const users = new Map<string, WatchedUser>()
  /** In the order in which they are looked at. */
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
      // They come again by themselves, and look then.
      for (const page of user.pages) page.end()
    }
    user.isLookedAt = false
    underWay -= 1
    lookAtDue()
  }

  /** With the first token that is good: a page whose session is over ends, and says nothing about the others. */
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
      // What later looks are compared with. A page that joins others fetches what is new when its stream opens.
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
