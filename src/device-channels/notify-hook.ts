/** Telling users through the application that Doorbell runs in: its `notify` hook. */
import type { Channel } from '../authentication-device/device-notice.ts'
import type { Log } from '../log.ts'
import type { Outcome } from '../outbox/notification.ts'
import type { UserHooks } from '../user-hint/user.ts'

type Notifying = UserHooks & Required<Pick<UserHooks, 'notify'>>

export function hasNotify(users: UserHooks): users is Notifying {
  return users.notify !== undefined
}

export interface NotifyHookNeeds {
  users: Notifying
  /** Milliseconds it may take. */
  timeout: number
  log: Log
}

export function createNotifyHook({ users, timeout, log }: NotifyHookNeeds): Channel {
  return {
    kind: 'notify',
    toProgram: true,
    // Whom the application reaches, only the application knows.
    reaches: () => true,
    async send({ request, user }, signal) {
      try {
        await inTime(users.notify(request, user), AbortSignal.any([signal, AbortSignal.timeout(timeout)]))
        return { kind: 'delivered', words: 'the hook took it' }
      } catch (error) {
        if (signal.aborted) throw error
        return failure(error, request.request_id, log)
      }
    },
  }
}

/** What the hook throws is for the log alone: nobody knows what is in it. */
function failure(error: unknown, request: string, log: Log): Outcome {
  if (error instanceof DOMException && error.name === 'TimeoutError') return { kind: 'failed', words: 'timeout' }
  log.error({ event: 'notify_hook.failed', request, error }, 'users.notify threw')
  return { kind: 'failed', words: 'the hook threw' }
}

/** A hook cannot be stopped; waiting for it can. */
function inTime(work: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => reject(signal.reason)
    if (signal.aborted) end()
    signal.addEventListener('abort', end, { once: true })
    Promise.resolve(work)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', end))
  })
}
