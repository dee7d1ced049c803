/** The backchannel authentication endpoint (CIBA Core §7): receives the authentication requests of clients. */
import type { FastifyInstance } from 'fastify'
import { clientRefused } from '../../client/authentication/authenticate-client.ts'
import type { ReadCertificate } from '../../client/certificate/client-certificate.ts'
import type { AuthenticateClient, Client, ClientCredentials } from '../../client/client.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import { proofSentWith, type SentProof } from '../../client/sender-constraint/dpop-proof.ts'
import type { SenderConstraint } from '../../client/sender-constraint/sender-constraint.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import type { Audit, AuditRecord } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { callerOf, type IncomingConnection } from '../../platform/http/connection.ts'
import { readForm } from '../../platform/http/form.ts'
import { type LoadShedding, slotOf } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { DatabaseClock } from '../../platform/storage/database-clock.ts'
import type { User } from '../../user/user.ts'
import type { DemandUserCode } from '../../user/user-code/user-code.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { ReachedLimit } from '../authentication-request/request-limit-store.ts'
import { acceptedValues, type RequestedClaims } from '../authentication-request/requested-claims.ts'
import type { BlockedClientStore } from '../request-limits/blocked-client-store.ts'
import { type LimitSettings, limitsFor, refusalFor, unknownLimitFor } from '../request-limits/request-limits.ts'
import {
  type createDecoyUsers,
  hidesUnknownUsers,
  refuseSubjectIdentifiers,
  type UserOrDecoy,
} from '../unknown-user/decoy-user.ts'
import type { UnknownUserStore } from '../unknown-user/unknown-user-counter-store.ts'
import { type SeekUser, unknownUser } from '../user-hint/find-user.ts'
import { type AcceptancePolicy, type Acknowledgement, accept, acknowledge } from './accept.ts'
import type { AcceptingShares } from './accepting-shares.ts'
import { type Asked, readAsked } from './parameters.ts'
import { type RequestPolicy, refuseUnlessAllowed, refuseUnlessMayInitiate } from './rules.ts'
import type { ReadSignedRequest } from './signed-request.ts'
import type { SignedRequestStore } from './signed-request-store.ts'

export interface BackchannelNeeds {
  withFairShare: LoadShedding['withFairShare']
  authenticateClient: AuthenticateClient
  certificateOf: ReadCertificate
  senderConstraint: SenderConstraint
  readSignedRequest: ReadSignedRequest
  signedRequests: SignedRequestStore
  seekUser: SeekUser
  unknownUsers: Pick<UnknownUserStore, 'pausedUntil' | 'tell'>
  /** Returns a decoy user, for a client that must not learn that a user does not exist. */
  decoyFor: ReturnType<typeof createDecoyUsers>
  demandUserCode: DemandUserCode
  /** Resolves to whether the user has blocked the client, or is locked, removed or erased. */
  isRefused: BlockedClientStore['isRefused']
  requests: RequestStore
  accepting: AcceptingShares
  /** Resolves to the notifications for the user's devices. */
  noticesFor(request: AuthenticationRequest, user: User): Promise<OutboxMessage[]>
  policy: RequestPolicy & AcceptancePolicy & LimitSettings & { unknownUsers: 'error' | 'pretend' }
  vault: Vault
  /** Called with the result of each request: `accepted`, or the error code. */
  requested(client: Client, result: string): void
  clock: Clock
  databaseClock: Pick<DatabaseClock, 'now'>
  audit: Audit
}

/** A call of the backchannel authentication endpoint. */
export interface BackchannelCall extends ClientCredentials {
  proof: SentProof
  /** The time of receipt, in milliseconds since 1970. The lifetime of the request starts at this time. */
  receivedAt: number
  caller: IncomingConnection
}

/** Adds the backchannel authentication endpoint to the server. */
export function backchannelEndpoint(app: FastifyInstance, path: string, needs: BackchannelNeeds): void {
  onlyMethods(app, path, ['POST'])
  app.post(path, async (request, reply) => {
    const receivedAt = needs.clock.now()
    const form = readForm(request.headers['content-type'], rawBody(request))
    const { authorization } = request.headers
    const keys = { certificate: needs.certificateOf(request.raw), proof: proofSentWith(request.raw) }
    const slot = slotOf(request.raw)
    const call = { form, authorization, ...keys, address: request.ip, slot, receivedAt, caller: callerOf(reply) }
    const acknowledgement = await receive(call, needs)
    return reply.header('cache-control', 'no-store').header('pragma', 'no-cache').send(acknowledgement)
  })
}

async function receive(call: BackchannelCall, needs: BackchannelNeeds): Promise<Acknowledgement> {
  const client = await needs.authenticateClient(call)
  return needs.withFairShare(client.id, call.slot, () => auditOutcome(call, client, needs))
}

/**
 * Records each request of an authenticated client in the audit and the metrics, and whether it was accepted or refused.
 */
async function auditOutcome(call: BackchannelCall, client: Client, needs: BackchannelNeeds): Promise<Acknowledgement> {
  const about: About = { client: client.id, address: call.address }
  needs.audit({ event: 'request.received', ...about })
  try {
    const acknowledgement = await authenticateUser(call, client, about, needs)
    needs.requested(client, 'accepted')
    return acknowledgement
  } catch (error) {
    const outcome = error instanceof OAuthError ? error.code : 'server_error'
    needs.audit({ event: 'request.refused', ...about, outcome })
    needs.requested(client, outcome)
    throw error
  }
}

/** The audit fields of a request, as far as they are known. */
type About = Omit<AuditRecord, 'event'>

/**
 * Checks the request, finds its user, and stores the request together with the notifications for the user's devices.
 */
async function authenticateUser(
  call: BackchannelCall,
  client: Client,
  about: About,
  needs: BackchannelNeeds,
): Promise<Acknowledgement> {
  refuseUnlessMayInitiate(client)
  // The DPoP proof is checked before the `jti` of a signed request is marked as used. So a client whose proof lacks a
  // current DPoP nonce can send the same signed request again with a new proof.
  const binding = await bindingOf(call, client, needs)
  const asked = await readAsked(call.form, client, needs.readSignedRequest, call.slot)
  refuseUnlessAllowed(asked, client, needs.policy)
  const { user, decoy } = await findUserToAsk(asked, client, about, call, needs)
  if (decoy === undefined) about.user = user.id

  const accepted = accept(asked, client, user, binding, call.receivedAt, needs.policy, needs.vault)
  const { request, authReqId } = accepted
  const notices = await needs.noticesFor(request, user)
  const { signedRequest } = asked
  const facts = signedRequest ? [needs.signedRequests.keep(request.id, signedRequest, request.createdAt)] : []
  const limits = limitsFor(client, needs.policy)
  // A client that has disconnected would not get the auth_req_id, so the user must not be asked for a decision.
  await call.caller.throwIfClosed()
  const leave = needs.accepting.enter(client.id, user.id)
  let kept: boolean
  try {
    kept = await needs.requests.accept(request, authReqId, limits, { facts, notifications: notices })
  } finally {
    leave()
  }
  if (!kept) throw await limitError(request, client, about, needs)

  const outcome = decoy === undefined ? request.deliveryMode : 'pretended'
  needs.audit({ event: 'request.accepted', request: request.id, ...about, outcome })
  // This audit event tells the operator that a client waits for a decision, but that no device of the user can be
  // notified.
  if (notices.length === 0 && decoy === undefined) {
    needs.audit({ event: 'device.unreachable', request: request.id, ...about })
  }
  return acknowledge(accepted)
}

/**
 * Resolves to the error for the limit that was reached. If no limit is reached any more, the error has a `Retry-After`
 * of one second.
 */
async function limitError(request: AuthenticationRequest, client: Client, about: About, needs: BackchannelNeeds) {
  const now = needs.clock.now()
  const limits = limitsFor(client, needs.policy)
  const found = await needs.requests.obstacleTo(request, limits, request.createdAt)
  if (found?.limit === 'clientRemoved') return clientRefused('the client was removed during the call')
  if (found?.limit === 'userChanged' || found?.limit === 'userClosed') {
    return endedUserError(request.userId, found.limit, client, about, needs)
  }
  const reached: ReachedLimit = found ?? { limit: 'perUser.perMinute', until: now }
  needs.audit({ event: 'limit.reached', ...about, outcome: reached.limit })
  return refusalFor(reached, now)
}

/**
 * Resolves to the error for a user who is locked, removed or erased (`userClosed`), or who was changed at about the
 * time of the request (`userChanged`). For `userClosed`, a client that may learn which users exist gets the same error
 * as for an unknown user. In all other cases, the error has status 429, so that the client can try again.
 */
async function endedUserError(
  userId: string,
  obstacle: 'userChanged' | 'userClosed',
  client: Client,
  about: About,
  needs: BackchannelNeeds,
): Promise<OAuthError> {
  const hidesUnknown = hidesUnknownUsers(client, needs.policy.unknownUsers)
  if (obstacle === 'userClosed' && !hidesUnknown) {
    return noUserError(`user ${userId} was locked, removed or erased`, client, about, needs)
  }
  // A client that must not learn which users exist must also not learn that a user was changed. If the user is still
  // locked or removed when the client tries again, a decoy user replaces the user (`findUserToAsk`).
  const description = hidesUnknown
    ? 'too many requests; try again later'
    : 'the user was changed at about the time of the request; try again'
  const detail = `user ${userId} was locked, removed or enabled again at about the time of the request`
  return new OAuthError('access_denied', description, { detail, status: 429, headers: { 'Retry-After': '1' } })
}

interface UserToAsk {
  user: User
  /** The same as `user` if `user` is a decoy user; undefined if it is a real user. */
  decoy: UserOrDecoy | undefined
}

/**
 * Resolves to the user that the hint identifies. Throws if there is no such user, or if the user code is wrong. For a
 * client that must not learn which users exist, a decoy user replaces an unknown user. A decoy user undergoes the same
 * checks as a real user.
 */
async function findUserToAsk(
  asked: Asked,
  client: Client,
  about: About,
  call: BackchannelCall,
  needs: BackchannelNeeds,
): Promise<UserToAsk> {
  const hidesUnknown = hidesUnknownUsers(client, needs.policy.unknownUsers)
  if (hidesUnknown) refuseSubjectIdentifiers(asked.hints[0]!)
  else await enforceUnknownUserLimit(client, about, needs)
  // If the client requests the claim `sub` with values, the user must have one of them (OpenID Connect Core §5.5.1).
  const subjects = acceptedValues(asked.claims as RequestedClaims | undefined, 'sub')
    .filter(isText)
    .slice(0, mostSubjects)
  const sought = await needs.seekUser(asked.hints[0]!, client, call.slot, subjects)
  if (sought.user === undefined && !hidesUnknown) throw await noUserError(sought.detail, client, about, needs)
  const decoy = sought.user === undefined ? needs.decoyFor(sought.named) : undefined
  const user = sought.user ?? decoy!

  const from = { address: call.address, connection: call.caller }
  await needs.demandUserCode(asked.userCode, user, client, decoy, from)
  // A client that must not learn which users exist must also not learn which users have blocked it, or are locked or
  // removed. So a decoy user replaces each of these users. For other clients, the statement that stores the request
  // refuses it in these cases.
  if (!hidesUnknown || !(await needs.isRefused(user.id, client.id))) return { user, decoy }
  const substitute = needs.decoyFor(user.id)
  return { user: substitute, decoy: substitute }
}

/**
 * Throws if the client got `unknown_user_id` too often within a minute. Called before the user is looked up, so that a
 * client that has reached its limit gets the same error whether the user exists or not.
 */
async function enforceUnknownUserLimit(client: Client, about: About, needs: BackchannelNeeds): Promise<void> {
  const most = unknownLimitFor(client, needs.policy)
  if (most === 0) return
  const now = needs.databaseClock.now()
  const until = await needs.unknownUsers.pausedUntil(client.id, most, now)
  if (until !== undefined) throw unknownUserLimitReached(until, now, about, needs)
}

/**
 * Resolves to the error `unknown_user_id`, or to an error with status 429 if the client got `unknown_user_id` too often
 * within a minute.
 */
async function noUserError(detail: string, client: Client, about: About, needs: BackchannelNeeds): Promise<OAuthError> {
  const most = unknownLimitFor(client, needs.policy)
  const now = needs.databaseClock.now()
  if (most === 0 || (await needs.unknownUsers.tell(client.id, most, now))) return unknownUser(detail)
  return unknownUserLimitReached((await needs.unknownUsers.pausedUntil(client.id, most, now)) ?? now, now, about, needs)
}

function unknownUserLimitReached(until: number, now: number, about: About, needs: BackchannelNeeds): OAuthError {
  const limit = 'perClient.unknownPerMinute'
  needs.audit({ event: 'limit.reached', ...about, outcome: limit })
  return refusalFor({ limit, until }, now)
}

/** Maximum number of values of `sub` that are compared with the user of the hint. Each comparison may need a query. */
const mostSubjects = 10

const isText = (value: unknown) => typeof value === 'string'

/** A push client never calls the token endpoint, so its tokens are bound to the certificate or key of this call. */
async function bindingOf(call: BackchannelCall, client: Client, needs: BackchannelNeeds): Promise<Confirmation> {
  return client.deliveryMode === 'push' ? needs.senderConstraint(call, client) : {}
}
