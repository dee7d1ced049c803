/** Dynamic client registration (RFC 7591), and its management (RFC 7592). */

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { bearerOf } from '../../platform/http/authorization.ts'
import { callerOf } from '../../platform/http/connection.ts'
import { readJson } from '../../platform/http/form.ts'
import { slotOf } from '../../platform/http/load-shedding.ts'
import {
  find,
  type Registration,
  type RegistrationCall,
  type RegistrationNeeds,
  register,
  remove,
  replace,
} from './register-client.ts'
import { type ValuesContext, valuesInForce } from './registered-values.ts'

export function registrationEndpoint(
  app: FastifyInstance,
  path: string,
  needs: RegistrationNeeds & { issuer: string },
): void {
  const uriOf = (id: string) => `${needs.issuer}${path}/${encodeURIComponent(id)}`

  onlyMethods(app, path, ['POST'])
  app.post(path, async (request, reply) => {
    const registration = await register(readBody(request), bearer(request), callOf(request, reply), needs)
    return answer(reply.code(201), whole(registration, uriOf(registration.client.id), needs))
  })

  const one = `${path}/:client_id`
  const idOf = (request: FastifyRequest) => (request.params as { client_id: string }).client_id
  onlyMethods(app, one, ['GET', 'PUT', 'DELETE'])
  app.get(one, async (request, reply) => {
    const token = bearer(request)
    const client = await find(idOf(request), token, slotOf(request.raw), needs)
    return answer(reply, {
      ...valuesInForce(client.metadata, needs),
      registration_client_uri: uriOf(client.id),
      registration_access_token: token,
    })
  })
  app.put(one, async (request, reply) => {
    const registration = await replace(idOf(request), bearer(request), readBody(request), callOf(request, reply), needs)
    return answer(reply, whole(registration, uriOf(registration.client.id), needs))
  })
  app.delete(one, async (request, reply) => {
    await remove(idOf(request), bearer(request), callOf(request, reply), needs)
    return reply.code(204).header('cache-control', 'no-store').send()
  })
}

function callOf(request: FastifyRequest, reply: FastifyReply): RegistrationCall {
  return { from: request.ip, slot: slotOf(request.raw), connection: callerOf(reply) }
}

function readBody(request: FastifyRequest): unknown {
  return readJson(request.headers['content-type'], rawBody(request))
}

function bearer(request: FastifyRequest): string | undefined {
  const token = bearerOf(request.headers.authorization)
  // No valid token is longer than 255 characters, so a longer token is not hashed.
  return token !== undefined && token.length <= 255 ? token : undefined
}

/** Returns all metadata in force, with the members that only the client receives (RFC 7591 §3.2.1). */
function whole(registration: Registration, uri: string, context: ValuesContext) {
  const { client, secret, registrationToken, registeredAt } = registration
  return {
    ...valuesInForce(client.metadata, context),
    client_id_issued_at: Math.floor(registeredAt / 1000),
    ...(secret !== undefined && { client_secret: secret, client_secret_expires_at: 0 }),
    registration_client_uri: uri,
    registration_access_token: registrationToken,
  }
}

function answer(reply: FastifyReply, body: unknown): FastifyReply {
  return reply.header('cache-control', 'no-store').header('pragma', 'no-cache').send(body)
}
