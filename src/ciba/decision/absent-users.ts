/**
 * Denies the pending requests of users whom an application has removed or disabled. An application that supplies the
 * users should call `doorbell.users.end` in this case, but not every application does. So this task regularly calls the
 * hook `users.find` for each user with pending requests. If the user was removed or disabled, the client gets
 * `access_denied` and need not wait until its request expires.
 */
import { createPeriodicTask } from '../../platform/periodic-task.ts'
import { createRepeatedFailures } from '../../platform/repeated-failures.ts'
import { isDatabaseUnavailable } from '../../platform/storage/unavailable.ts'
import { createTimeLimit } from '../../platform/until-aborted.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { OpenRequestStore } from '../authentication-request/open-request-store.ts'
import type { EndingReason } from './consent-history-store.ts'
import type { DecisionNeeds } from './decide.ts'
import { type EndedBy, endRequests, recordEnded } from './end-requests.ts'

export interface AbsentUserNeeds extends DecisionNeeds {
  openRequests: Pick<OpenRequestStore, 'endOfUser' | 'endOfPair' | 'usersWithPending'>
}

export type AbsentUsers = ReturnType<typeof createAbsentUsers>

/** Milliseconds between two rounds. A round checks all users with pending requests. */
const pauseMs = 30_000
/** Maximum number of users that one query reads. */
const batchSize = 1000
/** Maximum number of calls of the hook at the same time. */
const atOnce = 8
/** Milliseconds that a call of the hook may take. */
const patienceMs = 10_000

/** Returns the task. Call `start` to start it. `needs.findUser` is the application's hook. */
export function createAbsentUsers(needs: AbsentUserNeeds) {
  const { clock, log, openRequests } = needs
  const stopping = new AbortController()
  const reasonOf = createReasonOf(needs, stopping.signal)

  /**
   * Performs one round: checks all users with pending requests. When the task is stopped, no further users are checked.
   * Resolves to the number of denied requests.
   */
  async function look(): Promise<number> {
    let denied = 0
    let after: string | undefined = ''
    while (after !== undefined && !stopping.signal.aborted) {
      const users: string[] = await openRequests.usersWithPending(after, batchSize)
      after = users.length < batchSize ? undefined : users.at(-1)
      denied += await denyAbsent(users)
    }
    return denied
  }

  async function denyAbsent(users: string[]): Promise<number> {
    let denied = 0
    const workers = Array.from({ length: atOnce }, async () => {
      while (!stopping.signal.aborted) {
        const userId = users.shift()
        if (userId === undefined) return
        const ended = await unlessItFails(userId)
        denied += ended
      }
    })
    await Promise.all(workers)
    return denied
  }

  /**
   * Checks one user. If the check fails, for example because of a damaged row, the error is logged and the other users
   * are still checked.
   */
  async function unlessItFails(userId: string): Promise<number> {
    try {
      return await denyIfAbsent(userId)
    } catch (error) {
      if (isDatabaseUnavailable(error)) throw error
      log.error(
        { event: 'absent_users.failed', user: userId, error },
        'the requests of a removed user cannot be denied',
      )
      return 0
    }
  }

  async function denyIfAbsent(userId: string): Promise<number> {
    const askedAt = clock.now()
    const reason = await reasonOf(userId)
    if (reason === undefined) return 0
    const now = clock.now()
    // Requests that were received after the hook was called (`askedAt`) are not denied, because the application may
    // have added the user again.
    const isOver = ({ createdAt }: AuthenticationRequest) => createdAt <= askedAt
    const by: EndedBy = { decidedBy: 'application', deviceClientId: undefined, reason }
    const open = await openRequests.endOfUser(userId, 'anybody', (found) =>
      endRequests(found.filter(isOver), by, now, needs),
    )
    const ended = (open ?? []).filter(isOver)
    recordEnded(ended, by, needs.audit)
    return ended.length
  }

  async function run(): Promise<number> {
    await look()
    return pauseMs
  }

  const task = createPeriodicTask({
    work: run,
    failures: createRepeatedFailures(log, { event: 'absent_users.failed' }, 'the check for removed users failed'),
    retryAfterMs: pauseMs,
    clock,
  })
  return {
    start: () => task.start(pauseMs),
    look,
    /** Stops the task. A round in progress checks no further users. The task cannot be restarted. */
    stop(): Promise<void> {
      stopping.abort()
      return task.stop()
    },
  }
}

/**
 * Returns a function that calls the application's hook to find out whether a user can still decide. If the user was
 * removed or disabled, the function resolves to this reason. If the user can decide, or if the hook fails, it resolves
 * to undefined.
 *
 * @param stopped aborting this signal ends the wait for the hook
 */
function createReasonOf({ clock, log, findUser }: AbsentUserNeeds, stopped: AbortSignal) {
  const inTime = createTimeLimit(patienceMs, { clock, signal: stopped })
  /** Calls the hook, and waits until it responds, `patienceMs` are over, or the task is stopped. */
  const askHook = (userId: string) => inTime(findUser(userId))

  return async (userId: string): Promise<EndingReason | undefined> => {
    try {
      const user = await askHook(userId)
      if (user === null) return 'user_removed'
      return user.disabled ? 'user_locked' : undefined
    } catch (error) {
      if (stopped.aborted) return undefined
      log.warn(
        { event: 'absent_users.failed', user: userId, error },
        'users.find failed; it will be called again for this user in 30 seconds',
      )
      return undefined
    }
  }
}
