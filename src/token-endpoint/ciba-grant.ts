/** The CIBA grant: a client asks whether the user has decided, and takes its tokens once. */

import type { Audit } from '../audit.ts'
import {
  type AuthenticationRequest,
  statusAt,
  type TokenBinding,
} from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { DetailTypes } from '../authorization-details/detail-types.ts'
import { type AuthenticateClient, type Client, type ClientCredentials, mayUseGrant } from '../client/client.ts'
import type { Clock } from '../clock.ts'
import { answerPoll, type PollAnswer } from '../delivery/poll.ts'
import type { SentProof } from '../dpop/proof.ts'
import type { BindTokens } from '../dpop/token-binding.ts'
import type { InWork } from '../http/in-work.ts'
import { Refusal } from '../refusal.ts'
import type { IssueTokens, TokenResponse } from '../token/issue-tokens.ts'
import { readWantedShare, type WantedShare } from './wanted-share.ts'

export interface CibaGrantNeeds {
  fairly: InWork['fairly']
  authenticateClient: AuthenticateClient
  requests: RequestStore
  issueTokens: IssueTokens
  details: DetailTypes
  bindTokens: BindTokens
  /** Hears what each poll was answered. */
  polled(answer: PollAnswer): void
  clock: Clock
  audit: Audit
}

/** What comes with a call of the token endpoint. */
export interface TokenCall extends ClientCredentials {
  proof: SentProof
  /** The pause between polls is measured from arrival to arrival (TK-4). */
  arrivedAt: number
  /** Whether nobody waits for the answer any more. */
  isGone(): boolean
}

/** The order of the checks is that of TE-7: nothing about a request is told before the client has proven that it is its own. */
export async function redeem(call: TokenCall, needs: CibaGrantNeeds): Promise<TokenResponse> {
  const client = await needs.authenticateClient(call)
  return needs.fairly(client.id, () => collect(call, client, needs))
}

async function collect(call: TokenCall, client: Client, needs: CibaGrantNeeds): Promise<TokenResponse> {
  const { form, arrivedAt } = call
  const authReqId = form.get('auth_req_id')
  if (authReqId === undefined) throw new Refusal('invalid_request', 'auth_req_id is missing')
  refuseUnlessItMayCollect(client)
  // Before anything is accounted for: who comes without its key can come again with it (ML-10, DP-11).
  const binding = await needs.bindTokens(call, client)

  const poll = await needs.requests.poll(authReqId, client.id, arrivedAt)
  const answer = poll === undefined ? 'invalid_grant' : answerPoll(poll.request, arrivedAt, poll.tooEarly)
  needs.polled(answer)
  if (poll === undefined) throw unknown()
  if (answer !== 'issue tokens') throw refusals[answer]()
  return handOut(poll.request, binding, readWantedShare(form, poll.request, needs.details), call, needs)
}

/** A push client is told everything and may not ask (TE-4); others need the grant they were registered for (SM-5). */
function refuseUnlessItMayCollect(client: Client): void {
  if (client.deliveryMode === 'push') throw new Refusal('unauthorized_client', 'a push client does not poll')
  if (!mayUseGrant(client)) throw new Refusal('unauthorized_client', 'this client may not use this grant')
}

/** Makes the tokens, then writes them together with approved → redeemed. Of many that do so at once, one succeeds (TK-14). */
async function handOut(
  request: AuthenticationRequest,
  binding: TokenBinding,
  share: WantedShare,
  call: TokenCall,
  needs: CibaGrantNeeds,
): Promise<TokenResponse> {
  const about = {
    request: request.id,
    client: request.clientId,
    user: request.userId,
    address: call.address,
    by: request.deliveryMode,
  }
  const issued = await needs.issueTokens(request, { binding, ...share })
  if (issued === undefined) {
    needs.audit({ event: 'tokens.refused', ...about, outcome: 'user_unavailable' })
    throw refusals.access_denied()
  }
  // Tokens that nobody hears of are lost: the approval waits for the client to come again, here or at another node.
  if (call.isGone()) throw new Refusal('invalid_request', 'the connection ended before the answer')
  const now = needs.clock.now()
  const won = await needs.requests.redeem(request.id, now, issued.statements)
  if (!won) throw statusAt(request, now) === 'expired' ? refusals.expired_token() : unknown()
  needs.audit({ event: 'tokens.issued', ...about })
  return issued.response
}

/** Unknown, somebody else's, already used: one answer (TE-2), and the tokens already handed out stay good (M20). */
function unknown(): Refusal {
  return new Refusal('invalid_grant', 'auth_req_id is unknown, was used already, or belongs to another client')
}

const refusals: Record<Exclude<PollAnswer, 'issue tokens'>, () => Refusal> = {
  authorization_pending: () => new Refusal('authorization_pending', 'the user has not decided yet'),
  slow_down: () => new Refusal('slow_down', 'polled too early; the interval is now five seconds longer'),
  // 403 belongs to the backchannel authentication endpoint; here it is a plain 400 (AE-1).
  access_denied: () => new Refusal('access_denied', 'the user refused', { status: 400 }),
  expired_token: () => new Refusal('expired_token', 'the request expired; start a new one'),
  invalid_grant: unknown,
}
