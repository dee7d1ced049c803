/** Blocks a client for a user, and denies the client's pending requests about this user in the same transaction. */

import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { type AuthenticationRequest, statusAt } from '../authentication-request/authentication-request.ts'
import { endOpen, type OpenRequestStore, type Pair } from '../authentication-request/open-request-store.ts'
import type { Consequences } from '../authentication-request/request-move-store.ts'
import type { BlockedClientStore } from '../request-limits/blocked-client-store.ts'
import type { Decision } from './consent-history-store.ts'
import { changesOf, type EndedBy, type EndRequestsNeeds, endRequests, recordEnded } from './end-requests.ts'

export interface BlockNeeds extends EndRequestsNeeds {
  openRequests: Pick<OpenRequestStore, 'endOfPair'>
  blockedClients: Pick<BlockedClientStore, 'blocking'>
  audit: Audit
  clock: Clock
}

/**
 * Blocks a client for a user. Resolves to false, and changes nothing, if the access token of the call is not valid any
 * more.
 */
export type BlockClient = (block: Pair & { address: string }) => Promise<boolean>

/**
 * Returns the function that blocks a client and denies the client's pending requests about the user. Approved requests
 * stay valid until they are revoked.
 */
export function createBlockClient(needs: BlockNeeds): BlockClient {
  return async ({ address, ...pair }) => {
    const now = needs.clock.now()
    const by: EndedBy = { decidedBy: 'user', deviceClientId: undefined, reason: 'client_blocked' }
    const open = await needs.openRequests.endOfPair(pair, (open) => {
      const ended = endRequests(open.filter(isPending), by, now, needs)
      const block = needs.blockedClients.blocking(pair.userId, pair.clientId, now)
      return { ...ended, statements: [block, ...ended.statements] }
    })
    if (open === undefined) return false
    recordEnded(open.filter(isPending), by, needs.audit, address)
    return true
  }
}

/** A denial by which the user reports the client. `facts` includes the statement that blocks the client. */
export interface Report extends Required<Consequences> {
  request: AuthenticationRequest
  decision: Decision
  /** The hash of the user's access token. */
  tokenHash: string | undefined
  address: string | undefined
}

/**
 * Denies a request that the user reports ("this was not me"), and the client's other pending requests about the user.
 *
 * @returns whether the requests were denied. Nothing is changed if the reported request is not pending any more, or if
 *   the access token is not valid any more
 */
export async function settleReported(report: Report, needs: BlockNeeds): Promise<boolean> {
  const { request, decision, notifications, facts } = report
  const now = decision.decidedAt
  const { decidedBy, deviceClientId } = decision
  const by: EndedBy = { decidedBy, deviceClientId, reason: 'client_blocked' }
  const isReported = ({ id }: AuthenticationRequest) => id === request.id
  const includesReported = (open: AuthenticationRequest[]) =>
    open.some((one) => isReported(one) && statusAt(one, now) === 'pending')
  const others = (open: AuthenticationRequest[]) => open.filter((one) => isPending(one) && !isReported(one))

  const { userId, clientId } = request
  const open = await needs.openRequests.endOfPair({ userId, clientId, tokenHash: report.tokenHash }, (open) => {
    if (!includesReported(open)) return { statements: [], changes: [] }
    const ended = endRequests(others(open), by, now, needs)
    return {
      statements: [
        endOpen(request.id, decision.id, now),
        ...facts,
        ...notifications.map(needs.outbox.add),
        ...ended.statements,
      ],
      changes: [...changesOf(request, notifications, needs.vault), ...ended.changes],
    }
  })
  if (open === undefined || !includesReported(open)) return false
  recordEnded(others(open), by, needs.audit, report.address)
  return true
}

const isPending = ({ status }: AuthenticationRequest) => status === 'pending'
