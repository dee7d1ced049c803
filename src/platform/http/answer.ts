/** Receives request bodies, and converts errors to responses. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
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
import { challengeFor, sessionChallenge } from './challenge.ts'
import { isFromNetwork, trackConnections } from './life.ts'
import { refuseOtherSpellings } from './one-spelling.ts'
import { isUnstorableForDatabase } from './outside-text.ts'
import { beginBody, MAX_BODY_BYTES, type TakeBody, takeBody } from './request-body.ts'
import {
  answerUnavailable,
  type ErrorPage,
  isUnavailable,
  jsonErrorHeaders,
  Unavailable,
  wantsPage,
} from './unavailable.ts'
import { createUnavailableLog, type LogUnavailable } from './unavailable-log.ts'

/** Options for Fastify's constructor. `edge` makes all other settings of the server. */
export const edgeOptions: FastifyServerOptions = {
  // Calls that arrive while the server closes are answered by their routes, because Fastify's own 503 has another
  // format.
  return503OnClosing: false,
  bodyLimit: MAX_BODY_BYTES,
  // Fastify's schema compiler is not loaded, because no route has a schema. The compiler is larger than the rest of
  // Fastify.
  schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
  // Without this function, Fastify would include the malformed path in its response.
  frameworkErrors: (_error, request, reply) => {
    // Fastify runs no hook for a call with a malformed path, so the call is counted here.
    if (!beginCall(request.server, request.raw, reply.raw)) return
    setCommonHeaders(reply)
    answerWithoutPage(request, reply, malformed())
  },
}

function noSchemas(): never {
  throw new Error('routes have no schemas')
}

/**
 * Time limits for callers, in milliseconds. The limits for headers and for the whole request are counted from the first
 * byte of the request. If no byte has arrived, they are counted from the opening of the connection.
 */
export interface CallerTimeouts {
  headers: number
  /** The time for headers and body together. */
  request: number
  /**
   * While a call is in progress, its connection is closed if nothing is sent or received on it for this many
   * milliseconds. The time must be longer than a long poll, and longer than the time between two heartbeats of an event
   * stream.
   */
  silence: number
}

const callerPatience: CallerTimeouts = { headers: 10_000, request: 30_000, silence: 60_000 }

/**
 * Returns options with which the server closes the connections of slow callers. `ofNode` contains options of Node's
 * server, which closes the connection of a caller that sends too slowly or sends nothing. `handshakeTimeout` applies
 * only to TLS. `connectionTimeout` is an option of Fastify, which closes the connection of a caller that does not read
 * the response. With `ofNode`, Node also passes calls without `Host` to Fastify (see `beginCall`).
 */
export function serverTimeouts({ headers, request, silence } = callerPatience) {
  const ofNode = {
    headersTimeout: headers,
    handshakeTimeout: headers,
    requestTimeout: request,
    connectionsCheckingInterval: Math.min(headers / 2, 5000),
    // Without this setting, Node itself would answer a call without `Host`. Then the call would not be counted, and its
    // body would be kept in memory.
    requireHostHeader: false,
  }
  return { ofNode, requestTimeout: request, connectionTimeout: silence }
}

/**
 * Returns whether the body of a refused request is too large to be received and discarded. If it is too large, the
 * connection must be closed, because it cannot be used for a further request before the body is received. A body of
 * unknown size counts as too large.
 */
export function isTooLargeToDrain({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > MAX_BODY_BYTES
}

/**
 * Sends an OAuthError as an HTTP response. A 401 gets the challenge that `challengeFor` returns, unless the error
 * contains a challenge of its own.
 */
export function answerOAuthError(reply: FastifyReply, refusal: OAuthError): void {
  const { code, status, headers } = refusal
  const challenge = status === 401 ? challengeFor(code, reply.request.headers.authorization) : undefined
  if (challenge !== undefined) reply.header('WWW-Authenticate', challenge)
  answerError(reply.headers(headers), status, membersOf(refusal))
}

/**
 * Returns a function that sends the response for an error that occurs thousands of times a second. The response is
 * prepared only once. It is written without Fastify, which would process the same values each time. It is logged at
 * level debug only. Headers that were set with `reply.header` are not sent: pass them as `more`.
 */
export function precomputedResponse(refusal: OAuthError) {
  const body = JSON.stringify(membersOf(refusal))
  let common: FastifyInstance['commonHeaders'] = {}
  let headers: OutgoingHttpHeaders = {}
  return (reply: FastifyReply, more: Readonly<Record<string, string>> = {}): FastifyReply => {
    if (reply.server.commonHeaders !== common) {
      common = reply.server.commonHeaders
      headers = { ...jsonErrorHeaders, 'content-length': Buffer.byteLength(body), ...common }
    }
    reply.isUsual = true
    const all = Object.keys(more).length === 0 ? headers : { ...headers, ...more }
    const { raw } = reply.hijack()
    atTheEndOfTheTurn(() => {
      // If Doorbell is mounted in another server, that server may have answered in the meantime, for example because
      // its own time limit has passed.
      if (!raw.headersSent && !raw.destroyed) raw.writeHead(refusal.status, all).end(body)
    })
    return reply
  }
}

let answers: (() => void)[] = []

/**
 * Collects the responses of one turn of the event loop, and sends them together after all requests of that turn have
 * been read. If they were sent one by one, each of them would wake the process of the client or proxy that receives it.
 * One such wake-up takes longer than answering a poll. Responses that wait for a database statement do not need this:
 * they are sent together when the statement is done.
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
    /** Headers of every response. */
    commonHeaders: Readonly<Record<string, string>>
    errorPages: ErrorPages | undefined
  }
  interface FastifyReply {
    /** Whether the response is expected. An expected response is logged at level debug only. */
    isUsual: boolean
  }
}

/** The error pages for browsers. Programs get the same errors as JSON. */
export interface ErrorPages {
  unavailable: ErrorPage
  /** For an address at which there is no page. */
  notFound: ErrorPage
  /** For an error of this server. `id` is the id of the call in the log (`call`). */
  failed(acceptLanguage: string | undefined, id: string): ReturnType<ErrorPage>
}

/**
 * Sets up raw bodies, error responses and log lines for `app`. Must be called before routes are added.
 *
 * @param pages the error pages for browsers
 * @param more additional headers for every response
 */
export function edge(app: FastifyInstance, log: Log, pages?: ErrorPages, more: Record<string, string> = {}): void {
  app.decorate('commonHeaders', { 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', ...more })
  app.decorate('errorPages', pages)
  trackConnections(app)
  beginCalls(app)
  keepBodiesRaw(app)
  refuseOtherSpellings(app, answerNotFound)
  const logUnavailable = createUnavailableLog(log)
  app.setErrorHandler((error: Error, request, reply) => answerProblem(error, request, reply, { log, logUnavailable }))
  app.setNotFoundHandler(answerNotFound)
  app.decorateReply('isUsual', false)
  app.addHook('onSend', (_request, reply, _payload, done) => {
    setCommonHeaders(reply)
    if (reply.statusCode === 401 && String(reply.getHeader('content-type')).startsWith('text/html')) {
      reply.header('WWW-Authenticate', sessionChallenge)
    }
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    const level = reply.isUsual ? 'debug' : 'info'
    if (log.isLevelEnabled(level)) log[level](lineFor(request, reply), 'answered')
    done()
  })
}

/** Returns the body as received, for `readForm` and similar functions. The buffer is empty if there was no body. */
export function rawBody(request: FastifyRequest): Buffer {
  return Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
}

const commonMethods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] satisfies HTTPMethods[]

type CommonMethod = (typeof commonMethods)[number]

/** Answers all methods except `methods` at `path` with 405. The caller adds the routes of `methods`. */
export function onlyMethods(app: FastifyInstance, path: string, methods: CommonMethod[]): void {
  // Fastify adds HEAD to each GET route.
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

/**
 * Passes bodies to the routes as received. Fastify's own parsers correct invalid input, but the functions in `form.ts`
 * reject it.
 */
function keepBodiesRaw(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  // Both content types have the same parser. Fastify finds the parser of a listed type in a cache, but parses the name
  // of any other type at each call. The type of forms is listed, because most calls send forms.
  const types = ['application/x-www-form-urlencoded', '*']
  app.addContentTypeParser(types, (_request: FastifyRequest, payload: IncomingMessage, done: TakeBody) =>
    takeBody(payload, done),
  )
}

function beginCalls(app: FastifyInstance): void {
  app.addHook('onRequest', ({ raw: request }, { raw: response }, done) => {
    // If `beginCall` returns false, the call is answered or its connection is closed. Then `done` must not be called.
    if (beginCall(app, request, response)) done()
  })
  // An `Expect` header other than `100-continue` may be ignored (RFC 9110 §10.1.1). Without this listener, Node itself
  // would answer the request, and the call would not be counted.
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))
}

/**
 * Counts a call and begins to receive its body. Returns false if the call must not be processed any further: if
 * `life.begin` returns false, or if the call has no `Host` and was answered with 400.
 */
function beginCall(
  { life, commonHeaders }: FastifyInstance,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  // A request that the server itself injects is not counted: it is part of a call that is already counted.
  if (isFromNetwork(request) && !life.begin(request, response)) return false
  beginBody(request)
  if (!lacksHost(request)) return true
  const body = JSON.stringify(membersOf(malformed()))
  response.writeHead(400, { ...jsonErrorHeaders, connection: 'close', ...commonHeaders }).end(body)
  return false
}

/** Returns whether a call must get 400, because it is HTTP/1.1 and has no `Host` (RFC 9112 §3.2). */
function lacksHost({ httpVersion, headers }: IncomingMessage): boolean {
  return httpVersion === '1.1' && headers.host === undefined
}

function answerProblem(
  error: Error,
  request: FastifyRequest,
  reply: FastifyReply,
  { log, logUnavailable }: { log: Log; logUnavailable: LogUnavailable },
): void {
  const page = request.server.errorPages?.unavailable
  if (error instanceof OAuthError) {
    log.info({ call: request.id, code: error.code, detail: error.detail }, 'refused')
    // A person who opens the address of an endpoint in a browser gets the page for addresses without a page.
    if (error.status === 405 && isRead(request)) answerWithoutPage(request, reply, error)
    else answerOAuthError(reply, error)
  } else if (error instanceof Unavailable) {
    // An error with a cause is logged: it means that a service on which this server depends has failed. `Overloaded`
    // has no cause. It is not logged, because there would be too many lines.
    if (error.cause !== undefined) log.info({ call: request.id, detail: error.message }, 'cannot be answered now')
    answerUnavailable(error, request, reply, page)
  } else if (isBadRequest(error)) {
    answerOAuthError(reply, malformed())
  } else if (isUnstorableForDatabase(error)) {
    log.error({ call: request.id, error }, 'a value from outside reached the database unchecked')
    answerOAuthError(reply, malformed())
  } else if (isUnavailable(error)) {
    logUnavailable(request.id, error)
    answerUnavailable(error, request, reply, page)
  } else {
    log.error({ call: request.id, error }, 'a request failed')
    answerFailure(request, reply)
  }
}

function answerFailure({ id, headers, server }: FastifyRequest, reply: FastifyReply): void {
  if (server.errorPages !== undefined && wantsPage(headers)) {
    const page = server.errorPages.failed(headers['accept-language'], id)
    reply.code(500).headers(page.headers).send(page.text)
    return
  }
  answerError(reply, 500, {
    error: 'server_error',
    error_description: inOAuthCharacters(`the server failed; see the lines of its log with call ${id}`),
  })
}

function answerNotFound(request: FastifyRequest, reply: FastifyReply): void {
  answerWithoutPage(request, reply, new OAuthError('not_found', 'there is nothing at this address'))
}

/** Answers a call of an address at which there is no page: as a page if the caller is a browser, and as JSON if not. */
function answerWithoutPage(request: FastifyRequest, reply: FastifyReply, refusal: OAuthError): void {
  const render = request.server.errorPages?.notFound
  if (render === undefined || !wantsPage(request.headers)) {
    answerOAuthError(reply, refusal)
  } else {
    const { headers, text } = render(request.headers['accept-language'])
    reply.code(refusal.status).headers(refusal.headers).headers(headers).send(text)
  }
}

const isRead = ({ method }: FastifyRequest): boolean => method === 'GET' || method === 'HEAD'

function answerError(reply: FastifyReply, status: number, members: Record<string, string | number | boolean>): void {
  reply.code(status).headers(jsonErrorHeaders).send(JSON.stringify(members))
}

function membersOf({ code, hint, members }: OAuthError) {
  return { error: code, error_description: inOAuthCharacters(hint), ...members }
}

function setCommonHeaders(reply: FastifyReply): void {
  reply.headers(reply.server.commonHeaders)
}

/**
 * Returns the log line of a request. The line contains the pattern of the route, not the URL, because a URL may contain
 * an auth_req_id.
 */
function lineFor(request: FastifyRequest, reply: FastifyReply) {
  return {
    call: request.id,
    method: request.method,
    route: request.routeOptions.url ?? 'none',
    status: reply.statusCode,
    milliseconds: Math.round(reply.elapsedTime),
  }
}

/** Returns the error for a request that cannot be read, or that contains a value that cannot be stored. */
export const malformed = () => new OAuthError('invalid_request', 'the request is malformed')

/** Returns whether Fastify itself rejected the request, for instance because the body is incomplete. */
function isBadRequest(error: Error & Partial<FastifyError>): boolean {
  return error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500
}

/** Replaces characters that RFC 6749 §5.2 does not allow in `error_description`. */
export function inOAuthCharacters(text: string): string {
  return text.replace(/\s/g, ' ').replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/gu, '?')
}
