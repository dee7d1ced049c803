/** The backchannel authentication endpoint (CIBA Core §7): a client asks us to authenticate a user it cannot see. */
import type { FastifyInstance } from 'fastify'
import type { ReadCertificate } from '../../client/certificate/client-certificate.ts'
import type { AuthenticateClient, Client, ClientCredentials } from '../../client/client.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import { proofSentWith, type SentProof } from '../../client/sender-constraint/dpop-proof.ts'
import type { SenderConstraint } from '../../client/sender-constraint/sender-constraint.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import type { Audit, Happening } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { callerOf, type IncomingConnection } from '../../platform/http/connection.ts'
import { readForm } from '../../platform/http/form.ts'
import { type LoadShedding, slotOf } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { User } from '../../user/user.ts'
import type { DemandUserCode } from '../../user/user-code/user-code.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { ReachedLimit, RequestLimits } from '../authentication-request/request-limit-store.ts'
import type { BlockedClientStore } from '../request-limits/blocked-client-store.ts'
import { type LimitSettings, limitsFor, refusalFor, unknownLimitFor } from '../request-limits/request-limits.ts'
import type { UnknownUserStore } from '../request-limits/unknown-user-counter-store.ts'
import { type SeekUser, unknownUser } from '../user-hint/find-user.ts'
import { type AcceptancePolicy, type Acknowledgement, accept, acknowledge } from './accept.ts'
import { type createDecoyUsers, mustNotLearn, type StandInUser } from './decoy-user.ts'
import { type Asked, readAsked } from './parameters.ts'
import { type RequestPolicy, refuseUnlessAllowed, refuseUnlessItMayRing } from './rules.ts'
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
  /** Somebody in the place of a user who is not there, for a client that must not learn it. */
  decoyFor: ReturnType<typeof createDecoyUsers>
  demandUserCode: DemandUserCode
  /** Whether the user does not want to hear of the client any more. */
  isBlocked: BlockedClientStore['isBlocked']
  requests: RequestStore
  /** The notifications that tell the user's device. */
  noticesFor(request: AuthenticationRequest, user: User): Promise<OutboxMessage[]>
  policy: RequestPolicy & AcceptancePolicy & LimitSettings & { unknownUsers: 'error' | 'pretend' }
  vault: Vault
  clock: Clock
  audit: Audit
}

/** What comes with a call of this endpoint. */
export interface BackchannelCall extends ClientCredentials {
  proof: SentProof
  /** A request's lifetime counts from its receipt (AK-5). */
  receivedAt: number
  caller: IncomingConnection
}

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

/** Every request of a client that is known comes to one of two ends, and the audit hears of it. */
async function auditOutcome(call: BackchannelCall, client: Client, needs: BackchannelNeeds): Promise<Acknowledgement> {
  const about: About = { client: client.id, address: call.address }
  needs.audit({ event: 'request.received', ...about })
  try {
    return await authenticateUser(call, client, about, needs)
  } catch (error) {
    const outcome = error instanceof OAuthError ? error.code : 'server_error'
    needs.audit({ event: 'request.refused', ...about, outcome })
    throw error
  }
}

/** What the audit is told of a request, as far as it is known. */
type About = Omit<Happening, 'event'>

/** The story: who asks, what, may they, about whom; then it is kept, and only then does anybody hear of it. */
async function authenticateUser(
  call: BackchannelCall,
  client: Client,
  about: About,
  needs: BackchannelNeeds,
): Promise<Acknowledgement> {
  refuseUnlessItMayRing(client)
  // Before a signed request is used up: who has to come again with a nonce can send the same one (DP-11).
  const binding = await bindingOf(call, client, needs)
  const asked = await readAsked(call.form, client, needs.readSignedRequest, call.slot)
  refuseUnlessAllowed(asked, client, needs.policy)
  const { user, decoy } = await findWhomToAsk(asked, client, about, call, needs)
  if (decoy === undefined) about.user = user.id

  const accepted = accept(asked, client, user, binding, call.receivedAt, needs.policy, needs.vault)
  const { request, authReqId } = accepted
  const notices = await needs.noticesFor(request, user)
  const { signedRequest } = asked
  const facts = signedRequest ? [needs.signedRequests.keep(request.id, signedRequest, request.createdAt)] : []
  const limits = limitsFor(client, needs.policy)
  // Nobody would learn the auth_req_id, and a user would be asked for nothing.
  await call.caller.throwIfClosed()
  const kept = await needs.requests.accept(request, authReqId, limits, { facts, notifications: notices })
  if (!kept) throw await overTheLimit(request, limits, about, needs)

  const outcome = decoy === undefined ? request.deliveryMode : 'pretended'
  needs.audit({ event: 'request.accepted', request: request.id, ...about, outcome })
  // Somebody must look at it: the client waits for a user whom nothing has told.
  if (notices.length === 0 && decoy === undefined) {
    needs.audit({ event: 'device.unreachable', request: request.id, ...about })
  }
  return acknowledge(accepted)
}

/** Looked up again only to say which it was; if there is room meanwhile, the client may ask again at once. */
async function overTheLimit(
  request: AuthenticationRequest,
  limits: RequestLimits,
  about: About,
  needs: BackchannelNeeds,
) {
  const now = needs.clock.now()
  const found = await needs.requests.obstacleTo(request, limits, request.createdAt)
  const reached: ReachedLimit = found ?? { limit: 'perUser.perMinute', until: now }
  needs.audit({ event: 'limit.reached', ...about, outcome: reached.limit })
  return refusalFor(reached, now)
}

interface Asking {
  user: User
  /** The same, if the user is not there and the client must not learn it. */
  decoy: StandInUser | undefined
}

/**
 * The user, if this client may ask: somebody is there, and the code is right. Where the client must not learn who is
 * there, the way is the same for somebody and for nobody, step by step.
 */
async function findWhomToAsk(
  asked: Asked,
  client: Client,
  about: About,
  call: BackchannelCall,
  needs: BackchannelNeeds,
): Promise<Asking> {
  const secretly = mustNotLearn(client, needs.policy.unknownUsers)
  if (!secretly) await enforceUnknownUserLimit(client, about, needs)
  const sought = await needs.seekUser(asked.hints[0]!, client, call.slot)
  if (sought.user === undefined && !secretly) throw await nobodyThere(sought.detail, client, about, needs)
  const decoy = sought.user === undefined ? needs.decoyFor(sought.named) : undefined
  const user = sought.user ?? decoy!

  const from = { address: call.address, connection: call.caller }
  await needs.demandUserCode(asked.userCode, user, client, decoy, from)
  // Everybody else is refused by the statement that accepts. Here, somebody who has blocked the client is not there for
  // it, and it does not learn that either.
  if (!secretly || !(await needs.isBlocked(user.id, client.id))) return { user, decoy }
  const instead = needs.decoyFor(user.id)
  return { user: instead, decoy: instead }
}

/** Before anybody is looked for: a client that has to wait hears the same of those who are there (M30). */
async function enforceUnknownUserLimit(client: Client, about: About, needs: BackchannelNeeds): Promise<void> {
  const most = unknownLimitFor(client, needs.policy)
  if (most === 0) return
  const now = needs.clock.now()
  const until = await needs.unknownUsers.pausedUntil(client.id, most, now)
  if (until !== undefined) throw unknownUserLimitReached(until, now, about, needs)
}

/** Told so often in a minute; then it has to wait. */
async function nobodyThere(detail: string, client: Client, about: About, needs: BackchannelNeeds): Promise<OAuthError> {
  const most = unknownLimitFor(client, needs.policy)
  const now = needs.clock.now()
  if (most === 0 || (await needs.unknownUsers.tell(client.id, most, now))) return unknownUser(detail)
  return unknownUserLimitReached((await needs.unknownUsers.pausedUntil(client.id, most, now)) ?? now, now, about, needs)
}

function unknownUserLimitReached(until: number, now: number, about: About, needs: BackchannelNeeds): OAuthError {
  const limit = 'perClient.unknownPerMinute'
  needs.audit({ event: 'limit.reached', ...about, outcome: limit })
  return refusalFor({ limit, until }, now)
}

/** A push client is never seen at the token endpoint: its tokens are bound to the key it rings with (ML-14). */
async function bindingOf(call: BackchannelCall, client: Client, needs: BackchannelNeeds): Promise<Confirmation> {
  return client.deliveryMode === 'push' ? needs.senderConstraint(call, client) : {}
}
