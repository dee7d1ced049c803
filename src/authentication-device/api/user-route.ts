/** Addresses of the device API that take a user's own access token and nothing else: what is behind them is the user's. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { type Form, readJsonFields } from '../../platform/http/form.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { type DeviceCaller, type IdentifyCaller, requireAccessToken } from './device-caller.ts'

export interface UserCall {
  /** Whose token it is, and what the token says of the sign-in. */
  caller: DeviceCaller
  accessToken: string
  /** Empty for a GET, and for a POST without a body. */
  form: Form
  request: FastifyRequest
  reply: FastifyReply
}

/** Resolves to the body of the answer, which is JSON that no cache keeps. */
export type UserHandler = (call: UserCall) => Promise<object>

/** Answers the methods for which there is a handler, and no others. */
export function userRoute(
  app: FastifyInstance,
  path: string,
  identifyCaller: IdentifyCaller,
  handlers: { GET?: UserHandler; POST?: UserHandler },
): void {
  const answerWith = (handle: UserHandler) => async (request: FastifyRequest, reply: FastifyReply) => {
    const accessToken = requireAccessToken(request.headers.authorization)
    const form = readBody(request)
    const caller = await identifyCaller(request.raw, form)
    const body = await handle({ caller, accessToken, form, request, reply })
    return reply.header('cache-control', 'no-store').send(body)
  }
  onlyMethods(app, path, Object.keys(handlers) as ('GET' | 'POST')[])
  if (handlers.GET) app.get(path, answerWith(handlers.GET))
  if (handlers.POST) app.post(path, answerWith(handlers.POST))
}

/** @throws {OAuthError} `invalid_request` if it is missing */
export function needed(form: Form, name: string): string {
  const value = form.get(name)
  if (value === undefined) throw new OAuthError('invalid_request', `${name} is missing`)
  return value
}

/** A call that says nothing does not have to say of what type that is. */
function readBody(request: FastifyRequest): Form {
  if (request.method === 'GET' || rawBody(request).length === 0) return new Map()
  return readJsonFields(request.headers['content-type'], rawBody(request))
}
