/** The CIBA grant (CIBA §10.1): a client polls until the user has decided. After an approval, it gets tokens once. */

import type { DetailTypes } from '../../authorization-details/detail-types.ts'
import { type AuthenticateClient, type Client, type ClientCredentials, mayUseGrant } from '../../client/client.ts'
import type { SentProof } from '../../client/sender-constraint/dpop-proof.ts'
import type { SenderConstraint } from '../../client/sender-constraint/sender-constraint.ts'
import type { Audit } from '../../platform/audit.ts'
import { type Clock, steadyTime } from '../../platform/clock.ts'
import type { IncomingConnection } from '../../platform/http/connection.ts'
import type { LoadShedding } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { type AuthenticationRequest, statusAt } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { TakeBackForPoll } from '../client-notification/take-back.ts'
import type { IssueTokens, TokenResponse } from '../tokens/issue-tokens.ts'
import type { HeldResponses, RepeatablePoll } from './held-responses.ts'
import { type HeldPolls, tick } from './long-poll.ts'
import { answerPoll, type PollAnswer } from './poll-answer.ts'
import type { Arrival, PendingRequests } from './poll-cache.ts'
import { type RequestedSubset, readRequestedSubset } from './requested-subset.ts'

export interface CibaGrantNeeds {
  withFairShare: LoadShedding['withFairShare']
  releaseSlotWhile: LoadShedding['releaseSlotWhile']
  authenticateClient: AuthenticateClient
  requests: Pick<RequestStore, 'redeem' | 'find' | 'findByAuthReqId'>
  pending: Pick<PendingRequests, 'recall' | 'poll' | 'isKnown'>
  heldPolls: Pick<HeldPolls, 'hold'>
  /** For how many seconds a poll of a pending request is held. 0 turns long polling off. */
  longPoll: number
  heldResponses: HeldResponses
  issueTokens: IssueTokens
  /** Called if a client polls for a redeemed request that was made for ping or push. See `TakeBackForPoll`. */
  takeBack: TakeBackForPoll
  details: DetailTypes
  senderConstraint: SenderConstraint
  /** Called with the answer to each poll. */
  polled(answer: PollAnswer): void
  clock: Clock
  audit: Audit
}

/** A call of the token endpoint. */
export interface TokenCall extends ClientCredentials {
  proof: SentProof
  arrival: Arrival
  caller: IncomingConnection
  /** Whether long polling may hold this poll. */
  mayBeHeld: boolean
}

/**
 * The answers for a pending request. They are the most frequent answers, so they are returned and not thrown as errors.
 */
export type StillWaiting = 'authorization_pending' | 'slow_down'

/**
 * Answers a poll. A client that is not authenticated, or does not own the request, learns nothing about the request.
 *
 * @throws {OAuthError} the errors of CIBA §11, except those of `StillWaiting`
 */
export async function redeem(call: TokenCall, needs: CibaGrantNeeds): Promise<TokenResponse | StillWaiting> {
  const client = await needs.authenticateClient(call)
  return needs.withFairShare(client.id, call.slot, () => collect(call, client, needs))
}

async function collect(call: TokenCall, client: Client, needs: CibaGrantNeeds): Promise<TokenResponse | StillWaiting> {
  const { form } = call
  const authReqId = form.get('auth_req_id')
  if (authReqId === undefined) throw new OAuthError('invalid_request', 'auth_req_id is missing')
  if (client.deliveryMode === 'push') await refuseUnlessMadeForPoll(authReqId, client, needs)
  else if (!mayUseGrant(client)) throw new OAuthError('unauthorized_client', 'this client may not use this grant')
  // The certificate or DPoP proof is checked before the poll is counted. So a client whose certificate or proof is not
  // valid can correct the call and repeat it at once.
  const binding = await needs.senderConstraint(call, client)

  const result = await getResult(authReqId, client.id, call, needs)
  const poll = { form, client, binding }
  needs.polled(result.answer)
  switch (result.answer) {
    case 'authorization_pending':
    case 'slow_down':
      return result.answer
    case 'issue tokens':
      return redeemApproved(result, poll, readRequestedSubset(form, result.request, needs.details), call, needs)
    case 'invalid_grant':
      return giveAgain(result.redeemed, poll, call, needs)
    default:
      throw pollErrors[result.answer]()
  }
}

interface PendingResult {
  answer: StillWaiting
  id: string
  expiresAt: number
}

interface ApprovedResult {
  answer: 'issue tokens'
  request: AuthenticationRequest
  /** Whether the poll was held. If so, the server may not know that the client has disconnected. */
  wasHeld: boolean
}

type Result =
  | PendingResult
  | ApprovedResult
  /** `redeemed` is the redeemed request; undefined if the `auth_req_id` is unknown or belongs to another client. */
  | { answer: 'invalid_grant'; redeemed?: AuthenticationRequest }
  | { answer: 'access_denied' | 'expired_token' }

/**
 * Returns the result of the poll. With long polling, a poll of a pending request is held until the result changes, but
 * at most for `longPoll` seconds.
 */
function getResult(authReqId: string, clientId: string, call: TokenCall, needs: CibaGrantNeeds) {
  const recalled = needs.pending.recall(authReqId, clientId, call.arrival)
  return recalled === undefined ? readResult(authReqId, clientId, call, needs) : hold(recalled, call, needs)
}

async function readResult(
  authReqId: string,
  clientId: string,
  call: TokenCall,
  needs: CibaGrantNeeds,
): Promise<Result> {
  const { arrival } = call
  const poll = await needs.pending.poll(authReqId, clientId, arrival)
  if (poll === undefined) return { answer: 'invalid_grant' }
  const { request, tooEarly } = poll
  if (request.status === 'redeemed' && request.deliveryMode !== 'poll' && (await needs.takeBack(request, arrival.at))) {
    return { answer: 'issue tokens', request: { ...request, status: 'approved' }, wasHeld: false }
  }
  return hold(resultOf(request, arrival.at, tooEarly), call, needs)
}

/**
 * Holds the poll if it may be held and the result is `authorization_pending`. If not, returns the result itself, and
 * not a promise of the result.
 */
function hold(result: Result, call: TokenCall, needs: CibaGrantNeeds): Promise<Result> | Result {
  if (needs.longPoll === 0 || !call.mayBeHeld || result.answer !== 'authorization_pending') return result
  return holdPending(result, call, needs)
}

async function holdPending(result: PendingResult, call: TokenCall, needs: CibaGrantNeeds): Promise<Result> {
  const { id, expiresAt } = result
  const longPollEnd = call.arrival.steadyAt + needs.longPoll * 1000
  // The deadline is a time of the wall clock. It is converted to the monotonic clock of this process (`steadyTime`), by
  // which held polls are released.
  const deadline = steadyTime(needs.clock) + expiresAt - needs.clock.now()
  // If the request expires before the poll has to be released, the poll is released just after the deadline. Then the
  // answer is `expired_token`.
  const until = deadline <= longPollEnd ? deadline + tick : longPollEnd
  const held = { requestId: id, until, isCertain: needs.pending.isKnown(id) }
  const release = await needs.releaseSlotWhile(call.slot, needs.heldPolls.hold(held, call.caller))
  const now = needs.clock.now()
  if (release !== 'changed' && now < expiresAt) return result
  const request = await needs.requests.find(id)
  // A client that has disconnected gets no tokens. The request stays approved, so the client can poll again.
  if (request === undefined || call.caller.isClosed()) return result
  return hold(resultOf(request, now, false, true), call, needs)
}

function resultOf(request: AuthenticationRequest, now: number, tooEarly: boolean, wasHeld = false): Result {
  const { id, expiresAt } = request
  const answer = answerPoll(request, now, tooEarly)
  switch (answer) {
    case 'issue tokens':
      return { answer, request, wasHeld }
    case 'authorization_pending':
    case 'slow_down':
      return { answer, id, expiresAt }
    case 'invalid_grant':
      return { answer, redeemed: request }
    default:
      return { answer }
  }
}

/**
 * A push client gets its result by push and must not poll (CIBA §11). There is one exception: a request that the client
 * made while it was a poll client. Such a request has no notification token, so its result cannot be pushed.
 */
async function refuseUnlessMadeForPoll(authReqId: string, client: Client, { requests }: CibaGrantNeeds): Promise<void> {
  const request = await requests.findByAuthReqId(authReqId)
  if (request?.clientId === client.id && request.deliveryMode === 'poll') return
  throw new OAuthError('unauthorized_client', 'this client is registered for push and must not poll')
}

/**
 * Makes the tokens. The tokens are saved in the transaction that changes the request from approved to redeemed. If
 * several polls redeem the same request at the same time, only one succeeds. If this poll was held and the client
 * repeats it within some seconds, the repeated poll gets the same tokens. All other polls get `invalid_grant`.
 */
async function redeemApproved(
  { request, wasHeld }: ApprovedResult,
  poll: RepeatablePoll,
  share: RequestedSubset,
  call: TokenCall,
  needs: CibaGrantNeeds,
): Promise<TokenResponse> {
  const about = auditFieldsOf(request, call)
  const issued = await needs.issueTokens(request, { binding: poll.binding, ...share })
  if (issued === undefined) {
    needs.audit({ event: 'tokens.refused', ...about, outcome: 'user_unavailable' })
    throw pollErrors.access_denied()
  }
  // If the client has disconnected, the tokens would be lost. So an error is thrown. The request stays approved, and
  // the client can poll again.
  await call.caller.throwIfClosed()
  const now = needs.clock.now()
  const kept = wasHeld ? needs.heldResponses.keep(poll, request, issued) : []
  const won = await needs.requests.redeem(request.id, now, [...issued.statements, ...kept])
  if (!won && statusAt(request, now) === 'expired') throw pollErrors.expired_token()
  if (!won) return giveAgain(request, poll, call, needs)
  needs.audit({ event: 'tokens.issued', ...about })
  return issued.response
}

/**
 * Resolves to the tokens of a redeemed request. A poll gets these tokens only under three conditions: the poll repeats
 * the poll that redeemed the request (see `RepeatablePoll`), that earlier poll was held, and at most `repeatSeconds`
 * have passed.
 *
 * @throws {OAuthError} `invalid_grant` for every other poll
 */
async function giveAgain(
  redeemed: AuthenticationRequest | undefined,
  poll: RepeatablePoll,
  call: TokenCall,
  { heldResponses, audit }: CibaGrantNeeds,
): Promise<TokenResponse> {
  const response = redeemed && (await heldResponses.find(poll, redeemed))
  if (response === undefined) throw unknown()
  audit({ event: 'tokens.repeated', ...auditFieldsOf(redeemed!, call) })
  return response
}

function auditFieldsOf({ id, clientId, userId, deliveryMode }: AuthenticationRequest, { address }: TokenCall) {
  // If the request was made for push, its client has left push mode and polls for the result.
  const by = deliveryMode === 'push' ? 'poll' : deliveryMode
  return { request: id, client: clientId, user: userId, address, by }
}

/**
 * Returns the error for an `auth_req_id` that is unknown, was used before, or belongs to another client. The error is
 * the same in all three cases (CIBA §11). Tokens that were issued for the request stay valid.
 */
function unknown(): OAuthError {
  return new OAuthError('invalid_grant', 'auth_req_id is unknown, was used already, or belongs to another client')
}

const pollErrors = {
  // `access_denied` has status 403 at the backchannel authentication endpoint (CIBA §13), and 400 at the token
  // endpoint.
  access_denied: () => new OAuthError('access_denied', 'the user refused', { status: 400 }),
  expired_token: () => new OAuthError('expired_token', 'the request expired; start a new one'),
}
