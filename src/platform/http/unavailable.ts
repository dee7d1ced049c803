/** The response to a call that should be tried again later: 503 with `Retry-After`, as JSON or as a page. */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isDatabaseUnavailable } from '../storage/unavailable.ts'

/** Thrown if the server, or a service that the server depends on, cannot answer now. */
export class Unavailable extends Error {
  override readonly name: string = 'Unavailable'
  /** `error_description` of the response. */
  readonly description: string = unavailable.body.error_description
  /** The key of the text on the page for browsers. */
  readonly textKey: 'error.away' | 'error.provider_away' = 'error.away'
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

/** Returns the error, or the cause of it, that says what is unavailable. Errors of the database say nothing else. */
export function unavailableIn(error: unknown): Unavailable | undefined {
  if (error instanceof Unavailable) return error
  return error instanceof Error ? unavailableIn(error.cause) : undefined
}

/** Renders a page for browsers, in the requested language. `textKey` is the key of its text, if it is not always the same. */
export type ErrorPage = (
  acceptLanguage: string | undefined,
  textKey?: Unavailable['textKey'],
) => { headers: Record<string, string>; text: string }

/** Sends the 503: as a page if the caller is a browser and `page` is given, and as JSON if not. */
export function answerUnavailable(error: Error, request: FastifyRequest, reply: FastifyReply, page?: ErrorPage): void {
  const reason = unavailableIn(error)
  reply.code(unavailable.status).headers(unavailable.headers)
  if (reason !== undefined) reply.header('Retry-After', String(reason.retryAfterSeconds))
  if (page && wantsPage(request.headers)) {
    const { headers, text } = page(request.headers['accept-language'], reason?.textKey)
    reply.headers(headers).send(text)
  } else {
    const error_description = reason?.description ?? unavailable.body.error_description
    reply.headers(jsonErrorHeaders).send(JSON.stringify({ ...unavailable.body, error_description }))
  }
}

/** Returns whether the caller is a browser that shows the response to a person. */
export function wantsPage({ accept }: IncomingHttpHeaders): boolean {
  return accept?.includes('text/html') === true
}

/** Headers of every error response in JSON. */
export const jsonErrorHeaders = {
  'cache-control': 'no-store',
  pragma: 'no-cache',
  'content-type': 'application/json; charset=utf-8',
}
