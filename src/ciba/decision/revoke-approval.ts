/** A user takes an approval back: what could still be collected, and what has been, in one step. */
import type { OidcModelStore } from '../../openid-provider/oidc-model-store.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import { statusAt } from '../authentication-request/authentication-request.ts'
import type { OpenRequestStore } from '../authentication-request/open-request-store.ts'
import { type EndedBy, type EndRequestsNeeds, endRequests, recordEnded } from './end-requests.ts'

export interface RevokeNeeds extends EndRequestsNeeds {
  openRequests: Pick<OpenRequestStore, 'endOne'>
  /** The statement that removes what was issued for a request. */
  removeIssued: OidcModelStore['removeByRequest']
  audit: Audit
  clock: Clock
}

export type RevokeApproval = (revocation: {
  /** As it was read just now: one of the user's own. */
  request: AuthenticationRequest
  address: string
}) => Promise<boolean>

/**
 * An approval that its client has not collected becomes a denial, of which the client hears; tokens that came of it are
 * worth nothing. Resolves to whether there was anything to take back.
 */
export function createRevokeApproval(needs: RevokeNeeds): RevokeApproval {
  return async ({ request: before, address }) => {
    const now = needs.clock.now()
    const by: EndedBy = { decidedBy: 'user', deviceClientId: undefined }
    const collectable = (request: AuthenticationRequest) => (statusAt(request, now) === 'approved' ? [request] : [])

    const found = await needs.openRequests.endOne(before.id, before.userId, (request) => {
      const ended = endRequests(collectable(request), by, now, needs)
      return { ...ended, statements: [...ended.statements, needs.removeIssued(request.id)] }
    })
    if (found === undefined) return false
    recordEnded(collectable(found.request), by, needs.audit, address)
    // What was collected while we waited for the request is removed too, but the look that found it came before.
    const isJustCollected = before.status === 'approved' && found.request.status === 'redeemed'
    return collectable(found.request).length > 0 || found.hasIssued || isJustCollected
  }
}
