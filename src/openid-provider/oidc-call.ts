/**
 * Forwards calls to oidc-provider, which answers them. The body of such a call has already been read by this server.
 */
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Resources } from '../authorization-details/resources.ts'
import type { ClientCertificate, ReadCertificate } from '../client/certificate/client-certificate.ts'
import { type Proofs, proofSentWith } from '../client/sender-constraint/dpop-proof.ts'
import { rawBody } from '../platform/http/answer.ts'
import { basePathOf } from '../platform/http/base-path.ts'
import { callerOf } from '../platform/http/connection.ts'
import { type Form, isForm, readForm } from '../platform/http/form.ts'
import { slotOf } from '../platform/http/load-shedding.ts'
import { targetOf } from '../platform/http/one-spelling.ts'
import { refuseUnstorableForm } from '../platform/http/outside-text.ts'
import { rememberingFound } from './call-memory.ts'
import { holdingGenerations } from './generations-of-call.ts'
import {
  type AuthenticateForwarded,
  authenticatingRouteAt,
  rememberClient,
  withoutCredentials,
} from './oidc-call-client.ts'
import { createReadForwardedProof, type ForwardedProof, rememberProof } from './oidc-call-dpop-proof.ts'
import {
  type CallCounting,
  isUserinfo,
  type ReturningUsers,
  readsNothing,
  returningUserOf,
  workForClient,
  workForToken,
} from './oidc-call-limits.ts'
import { withConfiguredResources } from './oidc-call-resources.ts'
import type { CurrentProvider, Provider } from './openid-provider.ts'

export type ForwardToOidcProvider = ReturnType<typeof createForwardToOidcProvider>

/**
 * Returns the function that forwards requests to oidc-provider.
 * @param aliases further addresses of this server, for clients with certificates (RFC 8705 §5). A call whose `Host`
 *   header is that of an alias is forwarded with the host and scheme of the alias. Every other call is forwarded with
 *   those of the issuer
 */
export function createForwardToOidcProvider(
  provider: CurrentProvider,
  certificateOf: ReadCertificate,
  proofs: Proofs,
  aliases: readonly string[],
  resources: Resources,
  authenticateForwarded: AuthenticateForwarded,
  counting: CallCounting,
  returningUsers: ReturningUsers,
) {
  const callbackOf = rememberCallback()
  const readProof = createReadForwardedProof(provider, proofs)
  const issuer = new URL(provider().issuer)
  const known = new Map(aliases.map((alias) => [new URL(alias).host, new URL(alias)]))
  // By its host, a call cannot be told from a call of an alias on the same host. It counts as a call of the issuer.
  known.delete(issuer.host)

  const readCall = (request: FastifyRequest) => {
    const proof = proofSentWith(request.raw)
    const body = rawBody(request)
    refuseUnstorableForm(body)
    const route = request.method === 'POST' ? authenticatingRouteAt(proof.path, provider) : undefined
    const form = formIn(request, body, route !== undefined)
    const { authorization, cookie } = request.headers
    const certificate = certificateOf(request.raw)
    const returning = returningUserOf({ authorization, form, cookies: cookie }, returningUsers)
    const slot = slotOf(request.raw)
    return { proof, body, route, form, authorization, certificate, address: request.ip, slot, returning }
  }

  async function forward(
    request: FastifyRequest,
    reply: FastifyReply,
    { proof, body, form, certificate }: ReturnType<typeof readCall>,
    { forwardedProof, clientId }: { forwardedProof: ForwardedProof; clientId?: string | undefined },
  ): Promise<FastifyReply> {
    reply.hijack()
    // Fastify's hooks do not run for responses of oidc-provider. So the headers that these hooks add are set here.
    const headers = { ...request.server.commonHeaders, ...proofs.answerHeaders(proof) }
    for (const [name, value] of Object.entries(headers)) reply.raw.setHeader(name, value)
    if (request.method === 'POST') reply.raw.setHeader('Cache-Control', 'no-store')
    const address = known.get(request.raw.headers.host?.toLowerCase() ?? '') ?? issuer
    const options = { clientId, withoutProof: forwardedProof === 'withheld' }
    const replayed = replay(request.raw, withConfiguredResources(body, form, resources), address, options)
    if (certificate !== undefined) certificates.set(replayed, certificate)
    rememberProof(replayed, forwardedProof)
    rememberClient(replayed, clientId)
    await holdingGenerations(() => callbackOf(provider())(replayed, reply.raw))
    return reply
  }

  async function handle(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const call = readCall(request)
    const { route, form } = call
    const prepare = () => readProof(call)
    if (route !== undefined) {
      return workForClient(call, counting, {
        readProof: prepare,
        authenticate: () => authenticateForwarded(route, { ...call, form: form! }),
        answer: async (forwardedProof, { id, isPublic }) => {
          // The call may have waited while this server fetched the keys of the client. If the caller has closed the
          // connection since, its code and its proof must stay unused.
          await callerOf(reply).throwIfClosed()
          return forward(request, reply, call, { forwardedProof, clientId: isPublic ? undefined : id })
        },
      })
    }
    const answer = (forwardedProof: ForwardedProof) => forward(request, reply, call, { forwardedProof })
    const answerUnknown = async () => answer(await prepare())
    if (readsNothing(request.method, call.proof.path, provider)) return answerUnknown()
    // All remaining endpoints except userinfo are called by browsers, which send at most a session cookie. So these
    // calls count as unproven.
    return isUserinfo(call.proof.path, provider)
      ? workForToken(call, provider, counting, { readProof: prepare, answer })
      : counting.whileUnproven('', call.slot, answerUnknown, call.returning)
  }

  return (request: FastifyRequest, reply: FastifyReply) => rememberingFound(() => handle(request, reply))
}

/**
 * Returns a function that creates the callback of an instance of oidc-provider once, and then always returns this
 * callback. Only one callback is remembered, because only one instance is current at a time.
 */
function rememberCallback() {
  let made: { provider: Provider; callback: ReturnType<Provider['callback']> } | undefined
  return (provider: Provider) => {
    if (made?.provider !== provider) made = { provider, callback: provider.callback() }
    return made.callback
  }
}

/**
 * Returns the form of a call, or undefined if there is none. A form is read as strictly as at our own endpoints,
 * because a form that only oidc-provider could read would bypass the checks of this server.
 *
 * @param needed whether the body must be a form
 */
function formIn({ method, headers }: FastifyRequest, body: Buffer, needed: boolean): Form | undefined {
  const type = headers['content-type']
  return needed || (method === 'POST' && isForm(type)) ? readForm(type, body) : undefined
}

const certificates = new WeakMap<IncomingMessage, ClientCertificate>()

/** Returns the client certificate of a forwarded call, or undefined if the call came without one. */
export function certificateOfForwarded(request: IncomingMessage): ClientCertificate | undefined {
  return certificates.get(request)
}

/**
 * Returns a copy of the request with a readable body and with `address` as its host.
 *
 * @param clientId the client that was authenticated; the copy does not contain its credentials
 * @param withoutProof whether to leave out the header `DPoP`
 */
function replay(
  raw: IncomingMessage,
  sent: Buffer,
  address: URL,
  { clientId, withoutProof }: { clientId: string | undefined; withoutProof: boolean },
): IncomingMessage {
  const { body, headers: changed } = clientId === undefined ? { body: sent } : withoutCredentials(clientId, sent)
  const headers = {
    ...raw.headers,
    ...changed,
    ...(withoutProof && { dpop: undefined }),
    // The length of the body has possibly changed, because a `resource` may have another spelling, and client
    // credentials are removed.
    ...(raw.headers['content-length'] !== undefined && { 'content-length': String(body.length) }),
    host: address.host,
    'x-forwarded-proto': address.protocol.slice(0, -1),
    'x-forwarded-host': address.host,
  }
  // Only the path and the query are forwarded. If the request target is a whole URL (RFC 9112 §3.2.2), its scheme and
  // host are ignored.
  const { path, search } = targetOf(raw.url ?? '')
  const stream = Readable.from(body.length > 0 ? [body] : [])
  return Object.assign(stream, {
    headers,
    rawHeaders: raw.rawHeaders,
    method: raw.method,
    url: path + search,
    // oidc-provider puts this path before the paths of the addresses that it returns.
    baseUrl: basePathOf(address),
    socket: raw.socket,
    connection: raw.socket,
    httpVersion: raw.httpVersion,
    httpVersionMajor: raw.httpVersionMajor,
    httpVersionMinor: raw.httpVersionMinor,
    complete: true,
    aborted: false,
    trailers: {},
  }) as unknown as IncomingMessage
}
