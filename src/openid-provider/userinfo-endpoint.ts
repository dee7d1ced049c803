/**
 * The userinfo endpoint of oidc-provider, with the response header `x-fapi-interaction-id`, which FAPI requires of
 * resource servers.
 */
import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { onlyMethods } from '../platform/http/answer.ts'
import type { Log } from '../platform/log.ts'
import type { ForwardToOidcProvider } from './oidc-call.ts'

export interface UserinfoNeeds {
  forwardToOidcProvider: ForwardToOidcProvider
  log: Log
}

const INTERACTION = 'x-fapi-interaction-id'
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

export function userinfoEndpoint(
  app: FastifyInstance,
  path: string,
  { forwardToOidcProvider, log }: UserinfoNeeds,
): void {
  onlyMethods(app, path, ['GET', 'POST', 'OPTIONS'])
  app.route({
    method: ['GET', 'POST', 'OPTIONS'],
    url: path,
    handler: (request, reply) => {
      const interaction = interactionOf(request)
      reply.raw.setHeader(INTERACTION, interaction)
      log.info({ event: 'userinfo.called', interaction })
      return forwardToOidcProvider(request, reply)
    },
  })
}

/**
 * Returns the UUID that the caller sent, so that the caller and this server can find the call in their logs. If the
 * caller sent none, returns a new UUID.
 */
function interactionOf(request: FastifyRequest): string {
  const given = request.headers[INTERACTION]
  return typeof given === 'string' && uuid.test(given) ? given : randomUUID()
}
