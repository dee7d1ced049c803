/**
 * Watches the pending requests of users with open pages. `onChange` reports that requests of a user have changed. The
 * pending requests of this user are then read, with the access token of one of the user's pages. If they differ from
 * those of the last read, all pages of the user are notified. If several changes are reported during a read, one
 * further read follows for all of them.
 *
 * A page is watched only while its own access token is valid. A token is checked by a read with this token. This
 * happens when the first page with the token is opened, and for all tokens of a user when a session of the user has
 * ended.
 */
import type { Log } from '../platform/log.ts'
import type { DeviceApi } from './device-api.ts'

/** An open page of a user. */
export interface WatchingPage {
  /** An access token for the user's requests. */
  accessToken: string
  /** Called if the pending requests have changed, so that the page fetches its content again. */
  changed(): void
  /**
   * Called if the token is no longer valid, or if the pending requests could not be read. After that, `changed` and
   * `end` are not called again.
   */
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
   * Calls `listener` with the key of each user whose requests have changed. If changes may have been missed, calls it
   * with '', which stands for all users. Returns a function that removes `listener`.
   */
  onChange(listener: (userKey: string) => void): () => void
  /** Like `onChange`, but calls `listener` when a session of a user has ended. */
  onSessionsEnded(listener: (userKey: string) => void): () => void
  waiting: DeviceApi['waiting']
  log: Log
}

/**
 * Maximum number of reads at the same time. The limit matters when changes may have been missed, because then the
 * requests of all users with open pages are read.
 */
const looksAtOnce = 8

interface WatchedUser {
  pages: Set<WatchingPage>
  /**
   * The ids of the requests that were pending at the last read, separated by commas; undefined before the first read.
   */
  waiting: string | undefined
  isLookedAt: boolean
  /** The access tokens of pages that must be checked at the next read. */
  unchecked: Set<string>
}

export function createRequestWatch({ onChange, onSessionsEnded, waiting, log }: RequestWatchNeeds): RequestWatch {
  const users = new Map<string, WatchedUser>()
  /** Users whose requests must be read, in the order in which the reads begin. */
  const due = new Set<WatchedUser>()
  let underWay = 0

  const named = (userKey: string) => (userKey === '' ? [...users.values()] : [users.get(userKey) ?? []].flat())

  const stopListening = [
    onChange((userKey) => {
      for (const user of named(userKey)) due.add(user)
      lookAtDue()
    }),
    onSessionsEnded((userKey) => {
      for (const user of named(userKey)) {
        for (const { accessToken } of user.pages) user.unchecked.add(accessToken)
        due.add(user)
      }
      lookAtDue()
    }),
  ]

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
      await look(user, waiting)
    } catch (error) {
      log.warn({ event: 'consent_app.events_failed', error })
      // If the read fails, all pages of the user are disconnected. They reconnect by themselves, which causes another
      // read.
      for (const page of user.pages) page.end()
    }
    user.isLookedAt = false
    underWay -= 1
    lookAtDue()
  }

  return {
    add(userKey, page) {
      const user = users.get(userKey) ?? newUser()
      users.set(userKey, user)
      const isKnown = [...user.pages].some(({ accessToken }) => accessToken === page.accessToken)
      user.pages.add(page)
      // The first page with an access token causes a read, which checks the token and records the pending requests for
      // the comparison with the next read. Later pages with the same token cause no read.
      if (!isKnown) {
        user.unchecked.add(page.accessToken)
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
    close() {
      for (const stop of stopListening) stop()
    },
  }
}

function newUser(): WatchedUser {
  return { pages: new Set(), waiting: undefined, isLookedAt: false, unchecked: new Set() }
}

/**
 * Reads the pending requests with each unchecked token. If none of these tokens is valid, the other tokens of the user
 * are tried until one is valid. Pages whose token is not valid are disconnected before the other pages are notified.
 */
async function look(user: WatchedUser, waiting: DeviceApi['waiting']): Promise<void> {
  const { unchecked } = user
  user.unchecked = new Set()
  const tokens = [...new Set([...user.pages].map(({ accessToken }) => accessToken))]
  const isUnchecked = (token: string) => unchecked.has(token)
  let found: string | undefined
  for (const token of [...tokens.filter(isUnchecked), ...tokens.filter((token) => !isUnchecked(token))]) {
    if (found !== undefined && !isUnchecked(token)) break
    const { status, body } = await waiting(token)
    if (status === 401 || status === 403) {
      for (const page of [...user.pages]) if (page.accessToken === token) page.end()
    } else if (status === 200) found = body.requests.map(({ request_id }) => request_id).join()
    else throw new Error(`the device API answered ${status}`)
  }
  if (found === undefined) return
  const before = user.waiting
  user.waiting = found
  if (before !== undefined && before !== found) for (const page of user.pages) page.changed()
}
