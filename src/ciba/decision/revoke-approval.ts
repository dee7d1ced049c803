/**
 * Revokes an approval for the user who gave it. If the request is not redeemed yet, it is denied. If tokens were issued
 * for the request, they are removed in the same transaction.
 */
import type { OidcModelStore } from '../../openid-provider/oidc-model-store.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { OpenRequestStore } from '../authentication-request/open-request-store.ts'
import { markPushOfRequest } from '../client-notification/revoked-push-store.ts'
import { type EndedBy, type EndRequestsNeeds, endRequests, recordEnded } from './end-requests.ts'

export interface RevokeNeeds extends EndRequestsNeeds {
  openRequests: Pick<OpenRequestStore, 'endOne'>
  /** Returns the statement that removes the tokens issued for a request. */
  removeIssued: OidcModelStore['removeByRequest']
  audit: Audit
  clock: Clock
}

export type RevokeApproval = (revocation: {
  /** The request as it was just read. It must be about the user who revokes the approval. */
  request: AuthenticationRequest
  /** The hash of the user's access token. */
  tokenHash: string | undefined
  address: string
}) => Promise<boolean | undefined>

/**
 * Returns the function that revokes an approval. If the client has not redeemed the request, the request is denied and
 * the client gets `access_denied`. If tokens were issued, they are removed. The function resolves to whether there was
 * an approval or a token to revoke. If the access token of the call is not valid any more, the function changes nothing
 * and resolves to undefined.
 */
export function createRevokeApproval(needs: RevokeNeeds): RevokeApproval {
  return async ({ request: before, tokenHash, address }) => {
    const now = needs.clock.now()
    const by: EndedBy = { decidedBy: 'user', deviceClientId: undefined }
    // The deadline is not checked. If the clock of this node were ahead, the request would count as expired here,
    // although the client could still redeem it at another node.
    const redeemable = (request: AuthenticationRequest) => (request.status === 'approved' ? [request] : [])

    const { id, userId } = before
    const found = await needs.openRequests.endOne({ id, userId, tokenHash }, (request) => {
      const ended = endRequests(redeemable(request), by, now, needs)
      const revoking = [markPushOfRequest(request.id, now), needs.removeIssued(request.id)]
      return { ...ended, statements: [...ended.statements, ...revoking] }
    })
    if (found === undefined) return undefined
    recordEnded(redeemable(found.request), by, needs.audit, address)
    // If the client redeemed the request while this transaction waited for the lock of the request, `hasIssued` can be
    // false although tokens were issued.
    const isJustCollected = before.status === 'approved' && found.request.status === 'redeemed'
    return redeemable(found.request).length > 0 || found.hasIssued || isJustCollected
  }
}
