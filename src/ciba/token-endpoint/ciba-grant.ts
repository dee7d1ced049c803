/** The CIBA grant: a client asks whether the user has decided, and takes its tokens once. */

import type { DetailTypes } from '../../authorization-details/detail-types.ts'
import { type AuthenticateClient, type Client, type ClientCredentials, mayUseGrant } from '../../client/client.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import type { SentProof } from '../../client/sender-constraint/dpop-proof.ts'
import type { SenderConstraint } from '../../client/sender-constraint/sender-constraint.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import type { IncomingConnection } from '../../platform/http/connection.ts'
import type { LoadShedding } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { type AuthenticationRequest, statusAt } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { IssueTokens, TokenResponse } from '../tokens/issue-tokens.ts'
import { type HeldPolls, tick } from './long-poll.ts'
import { answerPoll, type PollAnswer } from './poll-answer.ts'
import type { PendingRequests } from './poll-cache.ts'
import { type RequestedSubset, readWantedShare } from './requested-subset.ts'

export interface CibaGrantNeeds {
  withFairShare: LoadShedding['withFairShare']
  releaseSlotWhile: LoadShedding['releaseSlotWhile']
  authenticateClient: AuthenticateClient
  requests: Pick<RequestStore, 'redeem' | 'find'>
  pending: Pick<PendingRequests, 'recall' | 'poll' | 'isKnown'>
  heldPolls: Pick<HeldPolls, 'hold'>
  /** Seconds a poll of a pending request is held; 0 is not at all. */
  longPoll: number
  issueTokens: IssueTokens
  details: DetailTypes
  senderConstraint: SenderConstraint
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
  caller: IncomingConnection
}

/** What most polls hear: no failure, so nothing is thrown. */
export type StillWaiting = 'authorization_pending' | 'slow_down'

/** The order of the checks is that of TE-7: nothing about a request is told before the client has proven that it is its own. */
export async function redeem(call: TokenCall, needs: CibaGrantNeeds): Promise<TokenResponse | StillWaiting> {
  const client = await needs.authenticateClient(call)
  return needs.withFairShare(client.id, call.slot, () => collect(call, client, needs))
}

async function collect(call: TokenCall, client: Client, needs: CibaGrantNeeds): Promise<TokenResponse | StillWaiting> {
  const { form } = call
  const authReqId = form.get('auth_req_id')
  if (authReqId === undefined) throw new OAuthError('invalid_request', 'auth_req_id is missing')
  refuseUnlessItMayCollect(client)
  // Before anything is accounted for: who comes without its key can come again with it (ML-10, DP-11).
  const binding = await needs.senderConstraint(call, client)

  const heard = await listen(authReqId, client.id, call, needs)
  needs.polled(heard.answer)
  switch (heard.answer) {
    case 'authorization_pending':
    case 'slow_down':
      return heard.answer
    case 'issue tokens':
      return handOut(heard.request, binding, readWantedShare(form, heard.request, needs.details), call, needs)
    default:
      throw refusals[heard.answer]()
  }
}

interface HeardNothing {
  answer: StillWaiting
  id: string
  expiresAt: number
}

type Heard =
  | HeardNothing
  | { answer: 'issue tokens'; request: AuthenticationRequest }
  | { answer: Exclude<PollAnswer, StillWaiting | 'issue tokens'> }

/** What the poll hears: now or, with long polling, as soon as there is something to hear. */
async function listen(authReqId: string, clientId: string, call: TokenCall, needs: CibaGrantNeeds): Promise<Heard> {
  const { arrivedAt } = call
  const recalled = needs.pending.recall(authReqId, clientId, arrivedAt)
  if (recalled !== undefined) return hold(recalled, call, needs)
  const poll = await needs.pending.poll(authReqId, clientId, arrivedAt)
  if (poll === undefined) return { answer: 'invalid_grant' }
  return hold(heardOf(poll.request, arrivedAt, poll.tooEarly), call, needs)
}

/** A poll that came too early is answered at once, and so is one that hears something. Most do not wait for a promise. */
function hold(heard: Heard, call: TokenCall, needs: CibaGrantNeeds): Promise<Heard> | Heard {
  if (needs.longPoll === 0 || heard.answer !== 'authorization_pending') return heard
  return holdPending(heard, call, needs)
}

async function holdPending(heard: HeardNothing, call: TokenCall, needs: CibaGrantNeeds): Promise<Heard> {
  const { id, expiresAt } = heard
  const patience = call.arrivedAt + needs.longPoll * 1000
  // Not let go before the deadline, so that it hears of it.
  const until = expiresAt <= patience ? expiresAt + tick : patience
  const held = { requestId: id, until, isCertain: needs.pending.isKnown(id) }
  const why = await needs.releaseSlotWhile(call.slot, needs.heldPolls.hold(held, call.caller))
  const now = needs.clock.now()
  if (why !== 'changed' && now < expiresAt) return heard
  const request = await needs.requests.find(id)
  // Whoever has left can come again: nothing is used up.
  if (request === undefined || call.caller.isClosed()) return heard
  return hold(heardOf(request, now, false), call, needs)
}

function heardOf(request: AuthenticationRequest, now: number, tooEarly: boolean): Heard {
  const { id, expiresAt } = request
  const answer = answerPoll(request, now, tooEarly)
  if (answer === 'issue tokens') return { answer, request }
  return answer === 'authorization_pending' || answer === 'slow_down' ? { answer, id, expiresAt } : { answer }
}

/** A push client is told everything and may not ask (TE-4); others need the grant they were registered for (SM-5). */
function refuseUnlessItMayCollect(client: Client): void {
  if (client.deliveryMode === 'push')
    throw new OAuthError('unauthorized_client', 'this client is registered for push and must not poll')
  if (!mayUseGrant(client)) throw new OAuthError('unauthorized_client', 'this client may not use this grant')
}

/** Makes the tokens, then writes them together with approved → redeemed. Of many that do so at once, one succeeds (TK-14). */
async function handOut(
  request: AuthenticationRequest,
  binding: Confirmation,
  share: RequestedSubset,
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
  await call.caller.throwIfClosed()
  const now = needs.clock.now()
  const won = await needs.requests.redeem(request.id, now, issued.statements)
  if (!won) throw statusAt(request, now) === 'expired' ? refusals.expired_token() : unknown()
  needs.audit({ event: 'tokens.issued', ...about })
  return issued.response
}

/** Unknown, somebody else's, already used: one answer (TE-2), and the tokens already handed out stay good (M20). */
function unknown(): OAuthError {
  return new OAuthError('invalid_grant', 'auth_req_id is unknown, was used already, or belongs to another client')
}

const refusals: Record<Exclude<PollAnswer, 'issue tokens' | StillWaiting>, () => OAuthError> = {
  // 403 belongs to the backchannel authentication endpoint; here it is a plain 400 (AE-1).
  access_denied: () => new OAuthError('access_denied', 'the user refused', { status: 400 }),
  expired_token: () => new OAuthError('expired_token', 'the request expired; start a new one'),
  invalid_grant: unknown,
}
