/** Hands a request to oidc-provider, body and all, although we have read the body already. */
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ClientCertificate, ReadCertificate } from '../client/certificate/client-certificate.ts'
import { type Proofs, proofSentWith } from '../client/sender-constraint/dpop-proof.ts'
import { rawBody } from '../platform/http/answer.ts'
import { callerOf } from '../platform/http/connection.ts'
import { type Form, isForm, readForm } from '../platform/http/form.ts'
import { type Slot, slotOf } from '../platform/http/load-shedding.ts'
import { targetOf } from '../platform/http/one-spelling.ts'
import { refuseUnstorableForm } from '../platform/http/outside-text.ts'
import { createReadProofToHandOver, rememberProof } from './forwarded-dpop-proof.ts'
import { holdingGenerations } from './held-generations.ts'
import type { CurrentProvider, Provider } from './openid-provider.ts'

/** Brings what oidc-provider would have to fetch to know a client. Resolves to whether the caller was kept waiting. */
export type PrepareKeys = (call: {
  form: Form
  certificate: ClientCertificate | undefined
  slot: Slot | undefined
}) => Promise<boolean>

export type ForwardToOidcProvider = ReturnType<typeof createForwardToOidcProvider>

/**
 * @param aliases further addresses of this server: where clients with certificates find the same endpoints (ML-12). A
 *   call that came there is handed over as such; one with any other `Host` came to the issuer, whatever it says
 */
export function createForwardToOidcProvider(
  provider: CurrentProvider,
  certificateOf: ReadCertificate,
  proofs: Proofs,
  aliases: readonly string[],
  prepareKeys: PrepareKeys,
) {
  const callbackOf = rememberCallback()
  const readProof = createReadProofToHandOver(provider, proofs)
  const issuer = new URL(provider().issuer)
  const known = new Map(aliases.map((alias) => [new URL(alias).host, new URL(alias)]))

  return async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const proof = proofSentWith(request.raw)
    const body = rawBody(request)
    refuseUnstorableForm(body)
    const certificate = certificateOf(request.raw)
    const form = formIn(request, body)
    const toHandOver = await readProof({ proof, authorization: request.headers.authorization, form })
    const waited = form !== undefined && (await prepareKeys({ form, certificate, slot: slotOf(request.raw) }))
    // It may have left meanwhile, and what is done for it may be done only once.
    if (waited) await callerOf(reply).throwIfClosed()
    reply.hijack()
    // Fastify's hooks do not see what oidc-provider answers.
    const headers = { ...request.server.commonHeaders, ...proofs.answerHeaders(proof) }
    for (const [name, value] of Object.entries(headers)) reply.raw.setHeader(name, value)
    if (request.method === 'POST') reply.raw.setHeader('Cache-Control', 'no-store')
    const address = known.get(request.raw.headers.host?.toLowerCase() ?? '') ?? issuer
    const replayed = replay(request.raw, body, address, toHandOver === 'withheld')
    if (certificate !== undefined) certificates.set(replayed, certificate)
    rememberProof(replayed, toHandOver)
    await holdingGenerations(() => callbackOf(provider())(replayed, reply.raw))
    return reply
  }
}

/** A callback is made once for each provider, of which there is one at a time. */
function rememberCallback() {
  let made: { provider: Provider; callback: ReturnType<Provider['callback']> } | undefined
  return (provider: Provider) => {
    if (made?.provider !== provider) made = { provider, callback: provider.callback() }
    return made.callback
  }
}

/**
 * What a client says of itself is in a form. Read as strictly as ours: what we could not read, and oidc-provider could,
 * would be a way past what is prepared here.
 */
function formIn({ method, headers }: FastifyRequest, body: Buffer): Form | undefined {
  const type = headers['content-type']
  return method === 'POST' && isForm(type) ? readForm(type, body) : undefined
}

const certificates = new WeakMap<IncomingMessage, ClientCertificate>()

/** The client certificate of a call that was handed over. */
export function certificateOfHandedOver(request: IncomingMessage): ClientCertificate | undefined {
  return certificates.get(request)
}

/** The request again, with a body that can still be read, and addressed to us by our own name. */
function replay(raw: IncomingMessage, body: Buffer, address: URL, withoutProof: boolean): IncomingMessage {
  const headers = {
    ...raw.headers,
    ...(withoutProof && { dpop: undefined }),
    host: address.host,
    'x-forwarded-proto': address.protocol.slice(0, -1),
    'x-forwarded-host': address.host,
  }
  // One spelling: its router would find the same route for others.
  const { path, search } = targetOf(raw.url ?? '')
  const stream = Readable.from(body.length > 0 ? [body] : [])
  return Object.assign(stream, {
    headers,
    rawHeaders: raw.rawHeaders,
    method: raw.method,
    url: path + search,
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
