/** The backchannel authentication endpoint (CIBA Core §7): a client asks us to authenticate a user it cannot see. */
import type { FastifyInstance } from 'fastify'
import type { AuthenticationRequest, TokenBinding } from '../authentication-request/authentication-request.ts'
import type { RequestStore } from '../authentication-request/authentication-request-store.ts'
import type { AuthenticateClient, Client, ClientCredentials } from '../client/client.ts'
import type { ReadCertificate } from '../client-certificate/client-certificate.ts'
import type { Clock } from '../clock.ts'
import { proofSentWith, type SentProof } from '../dpop/proof.ts'
import type { BindTokens } from '../dpop/token-binding.ts'
import { onlyMethods, rawBody } from '../http/answer.ts'
import { readForm } from '../http/form.ts'
import type { Log } from '../log.ts'
import { Refusal } from '../refusal.ts'
import type { Vault } from '../secret.ts'
import type { Statement } from '../storage/database.ts'
import type { FindUser } from '../user-hint/find-user.ts'
import type { User } from '../user-hint/user.ts'
import { type AcceptancePolicy, type Acknowledgement, accept, acknowledge } from './accept.ts'
import { readAsked } from './parameters.ts'
import { type RequestPolicy, refuseUnlessAllowed, refuseUnlessItMayRing } from './rules.ts'
import type { ReadSignedRequest } from './signed-request.ts'
import type { SignedRequestStore } from './signed-request-store.ts'

export interface BackchannelNeeds {
  authenticateClient: AuthenticateClient
  certificateOf: ReadCertificate
  bindTokens: BindTokens
  readSignedRequest: ReadSignedRequest
  signedRequests: SignedRequestStore
  findUser: FindUser
  /** Whether the user does not want to hear of the client any more. */
  isBlocked(userId: string, clientId: string): Promise<boolean>
  requests: RequestStore
  /** The notifications that tell the user's device. They are kept in one step with the request (VL-10). */
  announceToDevice(request: AuthenticationRequest, user: User): Promise<Statement[]>
  policy: RequestPolicy & AcceptancePolicy & { maxOpenPerUser: number }
  vault: Vault
  clock: Clock
  log: Log
}

/** What comes with a call of this endpoint. */
export interface BackchannelCall extends ClientCredentials {
  proof: SentProof
  /** A request's lifetime counts from its receipt (AK-5). */
  receivedAt: number
}

export function backchannelEndpoint(app: FastifyInstance, path: string, needs: BackchannelNeeds): void {
  onlyMethods(app, path, ['POST'])
  app.post(path, async (request, reply) => {
    const receivedAt = needs.clock.now()
    const form = readForm(request.headers['content-type'], rawBody(request))
    const { authorization } = request.headers
    const keys = { certificate: needs.certificateOf(request.raw), proof: proofSentWith(request.raw) }
    const acknowledgement = await receive({ form, authorization, ...keys, receivedAt }, needs)
    return reply.header('cache-control', 'no-store').header('pragma', 'no-cache').send(acknowledgement)
  })
}

/** The story: who asks, what, may they, about whom; then it is kept, and only then does anybody hear of it. */
async function receive(call: BackchannelCall, needs: BackchannelNeeds): Promise<Acknowledgement> {
  const client = await needs.authenticateClient(call)
  refuseUnlessItMayRing(client)
  // Before a signed request is used up: who has to come again with a nonce can send the same one (DP-11).
  const binding = await bindingOf(call, client, needs)
  const asked = await readAsked(call.form, client, needs.readSignedRequest)
  refuseUnlessAllowed(asked, client, needs.policy)
  const user = await needs.findUser(asked.hints[0]!, client)

  if (await needs.isBlocked(user.id, client.id)) throw blocked(user)

  const accepted = accept(asked, client, user, binding, call.receivedAt, needs.policy, needs.vault)
  const { request, authReqId } = accepted
  const notices = await needs.announceToDevice(request, user)
  const evidence =
    asked.signedRequest === undefined
      ? []
      : [needs.signedRequests.keep(request.id, asked.signedRequest, request.createdAt)]
  const topics = notices.length ? ['outbox'] : []
  const kept = await needs.requests.accept(request, authReqId, needs.policy, [...notices, ...evidence], topics)
  if (!kept) throw tooManyOpen(user)

  needs.log.info({ event: 'request.accepted', request: request.id, client: client.id, mode: request.deliveryMode })
  // Somebody must look at it: the client waits for a user whom nothing has told.
  if (notices.length === 0) needs.log.error({ event: 'device.unreachable', request: request.id }, unreachable)
  return acknowledge(accepted)
}

/** A push client is never seen at the token endpoint: its tokens are bound to the key it rings with (ML-14). */
async function bindingOf(call: BackchannelCall, client: Client, needs: BackchannelNeeds): Promise<TokenBinding> {
  return client.deliveryMode === 'push' ? needs.bindTokens(call, client) : {}
}

const unreachable = 'no channel reaches the user; they will not hear of this request unless their app asks'

/** The user has said so on the activity page; nothing of this request reaches them. */
function blocked(user: User): Refusal {
  return new Refusal('access_denied', 'the user does not take requests of this client', {
    detail: `user ${user.id} has blocked the client`,
  })
}

function tooManyOpen(user: User): Refusal {
  return new Refusal('access_denied', 'too many requests are waiting for this user; try again later', {
    detail: `user ${user.id} has reached requests.maxOpenPerUser`,
  })
}
