/** The edge of the server: how bodies come in, and how refusals, errors and everything else go out. */
import type { OutgoingHttpHeaders } from 'node:http'
import type {
  FastifyError,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  FastifyServerOptions,
  HTTPMethods,
} from 'fastify'
import type { Log } from '../log.ts'
import { OAuthError } from '../oauth-error.ts'
import { followLife } from './life.ts'
import { refuseOtherSpellings } from './one-spelling.ts'
import { isUnstorableForDatabase } from './outside-text.ts'
import { answerUnavailable, isUnavailable, jsonErrorHeaders, Unavailable, type UnavailablePage } from './unavailable.ts'

/** The largest body that is read: a signed request with all its claims is a tenth of it. */
export const MAX_BODY_BYTES = 64 * 1024

/** What Fastify must be told when it is made; the rest is `edge`. */
export const edgeOptions = {
  // Calls that still come while the server closes are answered by their routes; Fastify's own 503 has a form of its own.
  return503OnClosing: false,
  bodyLimit: MAX_BODY_BYTES,
  // No route has a schema. What Fastify would load to compile some is larger than the rest of it.
  schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
  // Without this Fastify answers a malformed path by repeating it.
  frameworkErrors: (_error, _request, reply) => {
    setCommonHeaders(reply)
    answerRefusal(reply, malformed())
  },
} satisfies FastifyServerOptions

function noSchemas(): never {
  throw new Error('routes have no schemas')
}

/** Milliseconds a caller has to send something, each counted from the first byte, or from when it connected. */
export interface CallerPatience {
  headers: number
  /** Headers and body. */
  request: number
}

const callerPatience: CallerPatience = { headers: 10_000, request: 30_000 }

/** Who sends slowly, or nothing at all, is let go; what Node's server must be told for it. */
export function serverPatience({ headers, request } = callerPatience) {
  return {
    headersTimeout: headers,
    requestTimeout: request,
    connectionsCheckingInterval: Math.min(headers / 2, 5000),
  }
}

/** Whether a body that nobody is going to read would have to be received before the connection can be used again. */
export function isTooLargeToDrain({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > MAX_BODY_BYTES
}

/** Translates a refusal into HTTP. */
export function answerRefusal(reply: FastifyReply, refusal: OAuthError): void {
  answerError(reply.headers(refusal.headers), refusal.status, membersOf(refusal))
}

/**
 * A refusal that is nothing but the usual course of things, given thousands of times a second: made once, written past
 * Fastify, which would look again at what is the same each time, and no line in the log but for who debugs.
 */
export function precomputedResponse(refusal: OAuthError): (reply: FastifyReply) => FastifyReply {
  const body = JSON.stringify(membersOf(refusal))
  const headers = { ...jsonErrorHeaders, 'content-length': Buffer.byteLength(body) }
  return (reply) => {
    reply.isUsual = true
    // What was said before goes along: a nonce, say.
    const all = { ...headers, ...reply.server.commonHeaders, ...(reply.getHeaders() as OutgoingHttpHeaders) }
    const { raw } = reply.hijack()
    atTheEndOfTheTurn(() => raw.writeHead(refusal.status, all).end(body))
    return reply
  }
}

let answers: (() => void)[] = []

/**
 * What is answered in one turn of the event loop goes out together, when all that came in it has been read. Answer by
 * answer, whoever is on the other side is woken by each of them, and waking somebody takes longer than a poll. (Other
 * answers come together by themselves, when the statement they waited for is done.)
 */
function atTheEndOfTheTurn(answer: () => void): void {
  if (answers.length === 0) setImmediate(answerAll)
  answers.push(answer)
}

function answerAll(): void {
  const all = answers
  answers = []
  for (const answer of all) answer()
}

declare module 'fastify' {
  interface FastifyInstance {
    /** What every answer says. */
    commonHeaders: Readonly<Record<string, string>>
  }
  interface FastifyReply {
    /** Nothing anybody wants to read of in the log. */
    isUsual: boolean
  }
}

/**
 * Makes `app` behave at its edges. To be called before routes are added.
 * @param page what browsers see while the server cannot answer
 * @param more what every answer says besides
 */
export function edge(app: FastifyInstance, log: Log, page?: UnavailablePage, more: Record<string, string> = {}): void {
  app.decorate('commonHeaders', { 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', ...more })
  followLife(app)
  keepBodiesRaw(app)
  refuseOtherSpellings(app, answerNotFound)
  app.setErrorHandler((error: Error, request, reply) => answerProblem(error, request, reply, { log, page }))
  app.setNotFoundHandler((request, reply) => answerNotFound(request, reply))
  app.decorateReply('isUsual', false)
  app.addHook('onSend', (_request, reply, _payload, done) => {
    setCommonHeaders(reply)
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    const level = reply.isUsual ? 'debug' : 'info'
    if (log.isLevelEnabled(level)) log[level](lineFor(request, reply), 'answered')
    done()
  })
}

/** The body as it came, for `readForm` and its like; empty if there was none. */
export function rawBody(request: FastifyRequest): Buffer {
  return Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
}

const commonMethods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] satisfies HTTPMethods[]

type CommonMethod = (typeof commonMethods)[number]

/** Answers all methods but `methods` at `path` with 405. The routes of `methods` themselves are added by whoever has them. */
export function onlyMethods(app: FastifyInstance, path: string, methods: CommonMethod[]): void {
  // Fastify adds HEAD wherever there is GET.
  const allowed = methods.includes('GET') ? [...new Set<CommonMethod>([...methods, 'HEAD'])] : methods
  const headers = { Allow: allowed.join(', ') }
  app.route({
    method: commonMethods.filter((method) => !allowed.includes(method)),
    url: path,
    exposeHeadRoute: false,
    handler: () => {
      throw new OAuthError('invalid_request', 'method not allowed', { status: 405, headers })
    },
  })
}

/** Fastify's own parsers replace, guess and merge; ours refuse (see form.ts). */
function keepBodiesRaw(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  // Fastify remembers whose parser is named, and takes apart all other types anew with each call: forms are most calls.
  const types = ['application/x-www-form-urlencoded', '*']
  app.addContentTypeParser(types, { parseAs: 'buffer', bodyLimit: MAX_BODY_BYTES }, (_request, body, done) =>
    done(null, body),
  )
}

function answerProblem(
  error: Error,
  request: FastifyRequest,
  reply: FastifyReply,
  { log, page }: { log: Log; page: UnavailablePage | undefined },
): void {
  if (error instanceof OAuthError) {
    log.info({ request: request.id, code: error.code, detail: error.detail }, 'refused')
    answerRefusal(reply, error)
  } else if (error instanceof Unavailable) {
    answerUnavailable(request, reply, page)
  } else if (isBadRequest(error)) {
    answerRefusal(reply, isTooLarge(error) ? tooLarge() : malformed())
  } else if (isUnstorableForDatabase(error)) {
    log.error({ request: request.id, error }, 'a value from outside reached the database unchecked')
    answerRefusal(reply, malformed())
  } else if (isUnavailable(error)) {
    log.error({ request: request.id, error }, 'cannot be answered now')
    answerUnavailable(request, reply, page)
  } else {
    log.error({ request: request.id, error }, 'a request failed')
    answerFailure(reply, request.id)
  }
}

function answerFailure(reply: FastifyReply, id: string): void {
  answerError(reply, 500, {
    error: 'server_error',
    error_description: inOAuthCharacters(`the server failed; see its log under request id ${id}`),
  })
}

function answerNotFound(request: FastifyRequest, reply: FastifyReply): void {
  if (request.headers.accept?.includes('text/html')) {
    reply.header('content-security-policy', "default-src 'none'; frame-ancestors 'none'")
    reply.code(404).type('text/html; charset=utf-8').send('<!doctype html><title>Not found</title><p>Not found</p>\n')
  } else {
    answerRefusal(reply, new OAuthError('not_found', 'there is nothing at this address'))
  }
}

function answerError(reply: FastifyReply, status: number, members: Record<string, string | number | boolean>): void {
  reply.code(status).headers(jsonErrorHeaders).send(JSON.stringify(members))
}

function membersOf({ code, hint, members }: OAuthError) {
  return { error: code, error_description: inOAuthCharacters(hint), ...members }
}

function setCommonHeaders(reply: FastifyReply): void {
  reply.headers(reply.server.commonHeaders)
}

/** The route's pattern, never the URL: a URL may carry an auth_req_id. */
function lineFor(request: FastifyRequest, reply: FastifyReply) {
  return {
    request: request.id,
    method: request.method,
    route: request.routeOptions.url ?? 'none',
    status: reply.statusCode,
    milliseconds: Math.round(reply.elapsedTime),
  }
}

/** What is answered to what nobody can read or keep. */
export const malformed = () => new OAuthError('invalid_request', 'the request is malformed')

const tooLarge = () =>
  new OAuthError('invalid_request', `the body is larger than ${MAX_BODY_BYTES} bytes`, { status: 413 })

/** What Fastify itself refuses, a body that broke off included. */
function isBadRequest(error: Error & Partial<FastifyError>): boolean {
  return error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500
}

function isTooLarge(error: Error & Partial<FastifyError>): boolean {
  return error.code === 'FST_ERR_CTP_BODY_TOO_LARGE'
}

/** The characters RFC 6749 §5.2 allows in `error_description`. */
function inOAuthCharacters(text: string): string {
  return text.replace(/\s/g, ' ').replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/gu, '?')
}
