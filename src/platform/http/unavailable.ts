/** The response to a call that should be tried again later: 503 with `Retry-After`, as JSON or as a page. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isDatabaseUnavailable } from '../storage/unavailable.ts'

/** Thrown if the server, or a service that the server depends on, cannot answer now. */
export class Unavailable extends Error {
  override readonly name: string = 'Unavailable'
  /** `error_description` of the response. */
  readonly description: string = unavailable.body.error_description
  /** After how many seconds the call should be tried again. */
  readonly retryAfterSeconds: number = 1
}

/** Thrown if a limit on work in progress is reached. The caller should try again later. */
export class Overloaded extends Unavailable {
  override readonly name = 'Overloaded'

  constructor() {
    // The stack trace of this error is not captured: very many calls may be refused, and the capture would be a large
    // part of the cost of each refusal.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super('too many calls are in progress')
    Error.stackTraceLimit = stackTraceLimit
  }
}

export const unavailable = {
  status: 503,
  headers: { 'Retry-After': '1' },
  body: {
    error: 'temporarily_unavailable',
    error_description: 'the server cannot answer now, please try again',
  },
} as const

/** Returns whether an error, or its cause, means that the server cannot answer now, but may be able to answer later. */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof Unavailable || isDatabaseUnavailable(error)) return true
  return error instanceof Error && error.cause !== undefined && isUnavailable(error.cause)
}

/** Renders a page for browsers, in the requested language. */
export type ErrorPage = (acceptLanguage: string | undefined) => { headers: Record<string, string>; text: string }

/** Sends the 503: as a page if the caller is a browser and `page` is given, and as JSON if not. */
export function answerUnavailable(error: Error, request: FastifyRequest, reply: FastifyReply, page?: ErrorPage): void {
  reply.code(unavailable.status).headers(unavailable.headers)
  if (error instanceof Unavailable) reply.header('Retry-After', String(error.retryAfterSeconds))
  if (page && request.headers.accept?.includes('text/html')) {
    const { headers, text } = page(request.headers['accept-language'])
    reply.headers(headers).send(text)
  } else {
    const error_description = error instanceof Unavailable ? error.description : unavailable.body.error_description
    reply.headers(jsonErrorHeaders).send(JSON.stringify({ ...unavailable.body, error_description }))
  }
}

/** Headers of every error response in JSON. */
export const jsonErrorHeaders = {
  'cache-control': 'no-store',
  pragma: 'no-cache',
  'content-type': 'application/json; charset=utf-8',
}
