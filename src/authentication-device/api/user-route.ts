/** Routes of the device API that accept only the user's own access token, and act only on this user's data. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { type Form, readJsonFields } from '../../platform/http/form.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { type DeviceCaller, type IdentifyCaller, requireAccessToken } from './device-caller.ts'

export interface UserCall {
  /** The user of the token, and how the user signed in. */
  caller: DeviceCaller
  /** Empty for a GET, and for a POST without a body. */
  form: Form
  request: FastifyRequest
  reply: FastifyReply
}

/** Resolves to the body of the response, sent as JSON with `no-store`. */
export type UserHandler = (call: UserCall) => Promise<object>

/** Adds a route for the methods that have a handler. Other methods are refused. */
export function userRoute(
  app: FastifyInstance,
  path: string,
  identifyCaller: IdentifyCaller,
  handlers: { GET?: UserHandler; POST?: UserHandler },
): void {
  const answerWith = (handle: UserHandler) => async (request: FastifyRequest, reply: FastifyReply) => {
    requireAccessToken(request.headers.authorization)
    const form = readBody(request)
    const body = await identifyCaller(request.raw, form, (caller) => handle({ caller, form, request, reply }))
    return reply.header('cache-control', 'no-store').send(body)
  }
  onlyMethods(app, path, Object.keys(handlers) as ('GET' | 'POST')[])
  if (handlers.GET) app.get(path, answerWith(handlers.GET))
  if (handlers.POST) app.post(path, answerWith(handlers.POST))
}

/**
 * Returns a required field.
 * @throws {OAuthError} `invalid_request` if the field is missing
 */
export function needed(form: Form, name: string): string {
  const value = form.get(name)
  if (value === undefined) throw new OAuthError('invalid_request', `${name} is missing`)
  return value
}

/** Returns the fields of the body. A request without a body needs no content type. */
function readBody(request: FastifyRequest): Form {
  if (request.method === 'GET' || rawBody(request).length === 0) return new Map()
  return readJsonFields(request.headers['content-type'], rawBody(request))
}
