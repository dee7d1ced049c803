/**
 * Denies the pending requests of users whom an application has removed or disabled. An application that supplies the
 * users should call `doorbell.users.end` in this case, but not every application does. This task therefore asks the hook
 * `users.find` regularly, so that clients do not wait until their requests expire.
 */
import { createPeriodicTask } from '../../platform/periodic-task.ts'
import { untilAborted } from '../../platform/until-aborted.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { OpenRequestStore } from '../authentication-request/open-request-store.ts'
import type { EndingReason } from './consent-history-store.ts'
import type { DecisionNeeds } from './decide.ts'
import { type EndedBy, endRequests, recordEnded } from './end-requests.ts'

export interface AbsentUserNeeds extends DecisionNeeds {
  openRequests: Pick<OpenRequestStore, 'endOfUser' | 'endOfPair' | 'usersWithPending'>
}

export type AbsentUsers = ReturnType<typeof createAbsentUsers>

/** Milliseconds between two rounds. A round checks users with pending requests. */
const pauseMs = 30_000
/** Maximum number of users in one round. The next round continues with the following users. */
const mostOfARound = 1000
const atOnce = 8
/** Milliseconds that a call of the hook may take. */
const patienceMs = 10_000

/** Returns the task. Call `start` to start it. `needs.findUser` is the application's hook. */
export function createAbsentUsers(needs: AbsentUserNeeds) {
  const { clock, log, openRequests } = needs
  const stopping = new AbortController()
  let last = ''

  /**
   * Checks the users of one round. Ends early when the task is stopped, and then asks about no further users. Resolves to
   * the number of denied requests.
   */
  async function look(): Promise<number> {
    const users = await openRequests.usersWithPending(last, clock.now(), mostOfARound)
    last = users.length < mostOfARound ? '' : users.at(-1)!
    let denied = 0
    const workers = Array.from({ length: atOnce }, async () => {
      while (!stopping.signal.aborted) {
        const userId = users.shift()
        if (userId === undefined) return
        denied += await denyIfAbsent(userId)
      }
    })
    await Promise.all(workers)
    return denied
  }

  async function denyIfAbsent(userId: string): Promise<number> {
    const askedAt = clock.now()
    const reason = await reasonOf(userId)
    if (reason === undefined) return 0
    const now = clock.now()
    // A later request may be about a user whom the application has added again.
    const isOver = ({ createdAt }: AuthenticationRequest) => createdAt <= askedAt
    const by: EndedBy = { decidedBy: 'application', deviceClientId: undefined, reason }
    const open = await openRequests.endOfUser(userId, 'anybody', now, (found) =>
      endRequests(found.filter(isOver), by, now, needs),
    )
    const ended = (open ?? []).filter(isOver)
    recordEnded(ended, by, needs.audit)
    return ended.length
  }

  /**
   * Resolves to the reason for which the user cannot decide any more: removed or disabled. Resolves to undefined if the
   * user can decide, or if the hook fails.
   */
  async function reasonOf(userId: string): Promise<EndingReason | undefined> {
    try {
      const user = await askHook(userId)
      if (user === null) return 'user_removed'
      return user.disabled ? 'user_locked' : undefined
    } catch (error) {
      if (stopping.signal.aborted) return undefined
      log.warn(
        { event: 'absent_users.failed', user: userId, error },
        'users.find failed; the user is asked about again',
      )
      return undefined
    }
  }

  /** Calls the hook, and waits until it responds, its time is over, or the task is stopped. */
  async function askHook(userId: string) {
    const late = new AbortController()
    const cancel = clock.after(patienceMs, () => late.abort(new Error(`no answer within ${patienceMs / 1000} seconds`)))
    try {
      return await untilAborted(needs.findUser(userId), AbortSignal.any([late.signal, stopping.signal]))
    } finally {
      cancel()
    }
  }

  async function run(): Promise<number> {
    try {
      await look()
    } catch (error) {
      log.error({ event: 'absent_users.failed', error }, 'the look for absent users failed; it will be repeated')
    }
    return pauseMs
  }

  const task = createPeriodicTask({ work: run, clock })
  return {
    start: () => task.start(pauseMs),
    look,
    /** Stops the task and ends a round that is under way. The task cannot be started again. */
    stop(): Promise<void> {
      stopping.abort()
      return task.stop()
    },
  }
}
