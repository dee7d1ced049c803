/** The backchannel authentication endpoint (CIBA Core §7): a client asks us to authenticate a user it cannot see. */
import type { FastifyInstance } from 'fastify'
import type { Audit, Happening } from '../audit.ts'
import type { AuthenticationRequest, TokenBinding } from '../authentication-request/authentication-request.ts'
import type {
  ReachedLimit,
  RequestLimits,
  RequestStore,
} from '../authentication-request/authentication-request-store.ts'
import { certificateBinding } from '../client/certificate-binding.ts'
import type { AuthenticateClient, Client, ClientCredentials } from '../client/client.ts'
import type { ReadCertificate } from '../client-certificate/client-certificate.ts'
import type { Clock } from '../clock.ts'
import { onlyMethods, rawBody } from '../http/answer.ts'
import { readForm } from '../http/form.ts'
import { Refusal } from '../refusal.ts'
import type { Vault } from '../secret.ts'
import type { Statement } from '../storage/database.ts'
import type { FindUser } from '../user-hint/find-user.ts'
import type { User } from '../user-hint/user.ts'
import { type AcceptancePolicy, type Acknowledgement, accept, acknowledge } from './accept.ts'
import { type LimitSettings, limitsFor, refusalFor } from './limits.ts'
import { readAsked } from './parameters.ts'
import { type RequestPolicy, refuseUnlessAllowed, refuseUnlessItMayRing } from './rules.ts'
import type { ReadSignedRequest } from './signed-request.ts'
import type { SignedRequestStore } from './signed-request-store.ts'

export interface BackchannelNeeds {
  authenticateClient: AuthenticateClient
  certificateOf: ReadCertificate
  readSignedRequest: ReadSignedRequest
  signedRequests: SignedRequestStore
  findUser: FindUser
  requests: RequestStore
  /** The notifications that tell the user's device. They are kept in one step with the request (VL-10). */
  announceToDevice(request: AuthenticationRequest, user: User): Promise<Statement[]>
  policy: RequestPolicy & AcceptancePolicy & LimitSettings & { boundTokensOnly: boolean }
  vault: Vault
  clock: Clock
  audit: Audit
}

/** What comes with a call of this endpoint. */
export interface BackchannelCall extends ClientCredentials {
  /** A request's lifetime counts from its receipt (AK-5). */
  receivedAt: number
}

export function backchannelEndpoint(app: FastifyInstance, path: string, needs: BackchannelNeeds): void {
  onlyMethods(app, path, ['POST'])
  app.post(path, async (request, reply) => {
    const receivedAt = needs.clock.now()
    const form = readForm(request.headers['content-type'], rawBody(request))
    const { authorization } = request.headers
    const call = { form, authorization, certificate: needs.certificateOf(request.raw), address: request.ip, receivedAt }
    const acknowledgement = await receive(call, needs)
    return reply.header('cache-control', 'no-store').header('pragma', 'no-cache').send(acknowledgement)
  })
}

/** Every request of a client that is known comes to one of two ends, and the audit hears of it. */
async function receive(call: BackchannelCall, needs: BackchannelNeeds): Promise<Acknowledgement> {
  const client = await needs.authenticateClient(call)
  const about: About = { client: client.id, address: call.address }
  needs.audit({ event: 'request.received', ...about })
  try {
    return await consider(call, client, about, needs)
  } catch (error) {
    const outcome = error instanceof Refusal ? error.code : 'server_error'
    needs.audit({ event: 'request.refused', ...about, outcome })
    throw error
  }
}

/** What the audit is told of a request, as far as it is known. */
type About = Omit<Happening, 'event'>

/** The story: who asks, what, may they, about whom; then it is kept, and only then does anybody hear of it. */
async function consider(
  call: BackchannelCall,
  client: Client,
  about: About,
  needs: BackchannelNeeds,
): Promise<Acknowledgement> {
  refuseUnlessItMayRing(client)
  const asked = await readAsked(call.form, client, needs.readSignedRequest)
  refuseUnlessAllowed(asked, client, needs.policy)
  const user = await needs.findUser(asked.hints[0]!, client)
  about.user = user.id

  const accepted = accept(
    asked,
    client,
    user,
    bindingOf(call, client, needs.policy),
    call.receivedAt,
    needs.policy,
    needs.vault,
  )
  const { request, authReqId } = accepted
  const notices = await needs.announceToDevice(request, user)
  const evidence =
    asked.signedRequest === undefined
      ? []
      : [needs.signedRequests.keep(request.id, asked.signedRequest, request.createdAt)]
  const topics = notices.length ? ['outbox'] : []
  const limits = limitsFor(client, needs.policy)
  const kept = await needs.requests.accept(request, authReqId, limits, [...notices, ...evidence], topics)
  if (!kept) throw await overTheLimit(request, limits, about, needs)

  needs.audit({ event: 'request.accepted', request: request.id, ...about, outcome: request.deliveryMode })
  // Somebody must look at it: the client waits for a user whom nothing has told.
  if (notices.length === 0) needs.audit({ event: 'device.unreachable', request: request.id, ...about })
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

/** A push client is never seen at the token endpoint: its tokens are bound to the key it rings with (ML-14). */
function bindingOf({ certificate }: BackchannelCall, client: Client, policy: BackchannelNeeds['policy']): TokenBinding {
  if (client.deliveryMode !== 'push') return {}
  return { certificate: certificateBinding(client, certificate, policy.boundTokensOnly) }
}
