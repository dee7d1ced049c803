/** What an application that has Doorbell in its own process can do with requests, without HTTP. */
import { type Authentication, type Status, statusAt } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { Clock } from '../clock.ts'
import type { Decide, DecisionResult } from '../decision/decide.ts'

/** A request as an application sees it. Times are milliseconds since 1970. */
export interface RequestView {
  requestId: string
  clientId: string
  userId: string
  status: Status
  scope: string
  bindingMessage: string | undefined
  createdAt: number
  expiresAt: number
}

export interface DeviceApiNeeds {
  requests: RequestStore
  decide: Decide
  clock: Clock
}

/**
 * @example
 * const [waiting] = await doorbell.requests.list('u1', { only: 'open' })
 * await doorbell.requests.approve(waiting.requestId, 'u1', { authTime: 1_790_000_000, amr: ['face'] })
 */
export function createDeviceApi({ requests, decide, clock }: DeviceApiNeeds) {
  const settle =
    (outcome: 'approved' | 'denied') =>
    (requestId: string, userId: string, authentication: Authentication = {}): Promise<DecisionResult> =>
      decide({ requestId, userId, outcome, decidedBy: 'application', authentication })

  return {
    /** The requests about a user, newest first. */
    async list(userId: string, { only = 'all' }: { only?: 'open' | 'all' } = {}): Promise<RequestView[]> {
      const now = clock.now()
      const found = await requests.listForUser(userId, only, now)
      return found.map(({ id, clientId, scope, bindingMessage, createdAt, expiresAt, ...request }) => ({
        requestId: id,
        clientId,
        userId,
        status: statusAt({ status: request.status, expiresAt }, now),
        scope,
        bindingMessage,
        createdAt,
        expiresAt,
      }))
    },
    /** The user says yes. Your code vouches for having asked the user. */
    approve: settle('approved'),
    /** The user says no. */
    deny: settle('denied'),
  }
}
