/** Notifies users through the application that Doorbell runs in, by its hooks `notify` and `notifyAccount`. */

import type { Outcome } from '../../outbox/notification.ts'
import type { Log } from '../../platform/log.ts'
import { untilAborted, untilTimeout } from '../../platform/until-aborted.ts'
import type { UserHooks } from '../../user/user.ts'
import type { Channel } from './device-notice.ts'

/** Returns whether the application has at least one of the hooks `notify` and `notifyAccount`. */
export function hasNotify(users: UserHooks): boolean {
  return (users.notify ?? users.notifyAccount) !== undefined
}

export interface NotifyHookNeeds {
  users: UserHooks
  /** Milliseconds that a hook may take. */
  timeout: number
  log: Log
}

export function createNotifyHook({ users, timeout, log }: NotifyHookNeeds): Channel {
  return {
    kind: 'notify',
    toProgram: true,
    // This server does not know which users the application reaches, so it sends the messages for all users.
    reaches: () => users.notify !== undefined,
    send: ({ request, user }, signal) =>
      call(() => users.notify?.(request, user), signal, { request: request.request_id }),
    sendAccount: ({ change, user }, signal) =>
      call(() => users.notifyAccount?.(change, user), signal, { notification: change.id }),
  }

  async function call(hook: () => Promise<void> | undefined, signal: AbortSignal, about: object): Promise<Outcome> {
    try {
      await untilAborted(untilTimeout(hook(), timeout), signal)
      return { kind: 'delivered', words: 'accepted by the hook' }
    } catch (error) {
      if (signal.aborted) throw error
      return failure(error, about, log)
    }
  }
}

/**
 * Returns the outcome of a failed hook. The error is logged, but not stored, because Doorbell does not know which data
 * of the application the error contains.
 */
function failure(error: unknown, about: object, log: Log): Outcome {
  if (error instanceof DOMException && error.name === 'TimeoutError') return { kind: 'failed', words: 'timeout' }
  log.error({ event: 'notify_hook.failed', ...about, error }, 'a hook that notifies users threw an error')
  return { kind: 'failed', words: 'the hook threw an error' }
}
