/**
 * The token endpoint: answers the CIBA grant (CIBA Core §10.1, §11) and forwards every other grant to oidc-provider.
 */
import type { FastifyInstance } from 'fastify'
import type { ReadCertificate } from '../../client/certificate/client-certificate.ts'
import { CIBA_GRANT } from '../../client/metadata/client-metadata.ts'
import { type Proofs, proofSentWith } from '../../client/sender-constraint/dpop-proof.ts'
import type { ForwardToOidcProvider } from '../../openid-provider/oidc-call.ts'
import { steadyTime } from '../../platform/clock.ts'
import { onlyMethods, precomputedResponse, rawBody } from '../../platform/http/answer.ts'
import { callerOf } from '../../platform/http/connection.ts'
import { readForm } from '../../platform/http/form.ts'
import { slotOf } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { type CibaGrantNeeds, redeem } from './ciba-grant.ts'

export interface TokenEndpointNeeds extends CibaGrantNeeds {
  certificateOf: ReadCertificate
  proofs: Proofs
  forwardToOidcProvider: ForwardToOidcProvider
}

/** Adds the token endpoint to the server. */
export function tokenEndpoint(app: FastifyInstance, path: string, needs: TokenEndpointNeeds): void {
  onlyMethods(app, path, ['POST', 'OPTIONS'])
  app.options(path, (request, reply) => needs.forwardToOidcProvider(request, reply))
  app.post(path, async (request, reply) => {
    const arrival = { at: needs.clock.now(), steadyAt: steadyTime(needs.clock) }
    const form = readForm(request.headers['content-type'], rawBody(request))
    const caller = callerOf(reply)
    if (form.get('grant_type') !== CIBA_GRANT) {
      // If the client has disconnected, the call is not forwarded. Otherwise, the client would not get the response to
      // a refresh and would repeat the refresh. If a refresh token is used twice, its whole grant is revoked.
      await caller.throwIfClosed()
      return needs.forwardToOidcProvider(request, reply)
    }

    const { authorization } = request.headers
    const proof = proofSentWith(request.raw)
    const nonce = needs.proofs.answerHeaders(proof)
    reply.headers(nonce)
    const certificate = needs.certificateOf(request.raw)
    const slot = slotOf(request.raw)
    const mayBeHeld = rawBody(request).length <= mostHeldBytes
    const call = { form, authorization, certificate, proof, address: request.ip, slot, arrival, caller, mayBeHeld }
    const tokens = await redeem(call, needs)
    if (typeof tokens === 'string') return waiting[tokens](reply, nonce)
    return reply.header('cache-control', 'no-store').header('pragma', 'no-cache').send(tokens)
  })
}

/**
 * Maximum length of the body of a held poll, in bytes. A poll with a longer body is not held, because a held poll keeps
 * several copies of its body in memory. The polls of real clients are shorter.
 */
const mostHeldBytes = 4 * 1024

const waiting = {
  authorization_pending: precomputedResponse(new OAuthError('authorization_pending', 'the user has not decided yet')),
  slow_down: precomputedResponse(
    new OAuthError('slow_down', 'polled too early; add five seconds to the pause between two polls'),
  ),
}
