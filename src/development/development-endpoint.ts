/**
 * Routes that exist in development only. They decide an authentication request without a device, receive pings and
 * pushes, and show mails.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { RequestStore } from '../ciba/authentication-request/authentication-request-store.ts'
import type { Decide } from '../ciba/decision/decide.ts'
import type { Clock } from '../platform/clock.ts'
import { rawBody } from '../platform/http/answer.ts'
import { type Form, isTooDeep, readJsonFields, readQuery } from '../platform/http/form.ts'
import { OAuthError } from '../platform/oauth-error.ts'
import { pageHeaders, pagesIn } from '../platform/pages/pages.ts'
import type { Mailbox } from './mailbox.ts'

export interface DevelopmentNeeds {
  requests: RequestStore
  decide: Decide
  mailbox: Mailbox
  /** Called for every call of /dev/callback/:name, with the unparsed body and the status of the response. */
  onCall?: ((call: RecordedCall) => void) | undefined
  /** Whether the demo is running. If not, `/demo` shows how to start it. */
  hasDemo: boolean
  clock: Clock
}

const actions = new Map([
  ['allow', 'approved'],
  ['deny', 'denied'],
] as const)

/** A call that the notification endpoint received, with its body parsed if it is JSON. */
export interface ReceivedCall {
  /** ISO 8601. */
  at: string
  authorization: string | undefined
  contentType: string | undefined
  body: unknown
}

/** A call with its unparsed body. */
export interface RecordedCall {
  name: string
  authorization: string | undefined
  contentType: string | undefined
  body: string
  /** The status of the response. */
  status: number
}

/** Maximum number of calls that are kept for each name in /dev/callback/:name. */
const callsKept = 50
/** Maximum number of names in /dev/callback/:name whose calls are kept. */
const namesKept = 100

/** The page of the mailbox shows each mail in a frame. */
const mailboxHeaders = {
  ...pageHeaders,
  'content-security-policy': `${pageHeaders['content-security-policy']}; frame-src 'self'`,
}

/**
 * Headers of a mail in a frame of the mailbox. Like a mail program, the frame runs no script, loads nothing, and applies
 * the style that is written into the mail.
 */
const mailHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy':
    "sandbox allow-top-navigation-by-user-activation; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
}

/** Returns the mail with links that open in the whole window, because the pages of the app cannot be shown in a frame. */
const openingLinksOutside = (html: string) => html.replace('<head>', '<head><base target="_top">')

const renderPage = pagesIn<'mailbox' | 'no-demo'>(new URL('./views/', import.meta.url))

export function developmentEndpoint(app: FastifyInstance, needs: DevelopmentNeeds): void {
  app.post('/dev/decide', async (request, reply) => {
    const form = readDecision(request)
    const outcome = actions.get(form.get('action') as 'allow')
    if (outcome === undefined) throw new OAuthError('invalid_request', 'action must be allow or deny')
    const found = await needs.requests.findByAuthReqId(form.get('auth_req_id') ?? '')
    if (found === undefined) throw new OAuthError('not_found', 'no such request')
    // The decision is stored as if the user had just been authenticated, with the first of the requested `acr_values`.
    const [acr] = found.acrValues?.split(' ') ?? []
    const authentication = { authTime: Math.floor(needs.clock.now() / 1000), amr: ['dev'], acr }
    const result = await needs.decide({
      requestId: found.id,
      userId: found.userId,
      outcome,
      decidedBy: 'application',
      authentication,
      address: request.ip,
    })
    if (result.kind === 'user unavailable') throw new OAuthError('access_denied', 'the user cannot decide now')
    if (result.kind !== 'settled') throw new OAuthError('already_decided', `nothing to decide: ${result.kind}`)
    return reply.code(200).send({ request_id: found.id, status: result.status })
  })

  callbackRoutes(app, needs)

  if (!needs.hasDemo) {
    app.get('/demo', (_request, reply) =>
      reply
        .code(404)
        .headers(pageHeaders)
        .send(renderPage('no-demo', { base: app.basePath })),
    )
  }
  app.get('/dev/mailbox', (request, reply) => {
    if (request.headers.accept?.includes('application/json')) return reply.send({ mails: needs.mailbox.mails() })
    return reply
      .headers(mailboxHeaders)
      .send(renderPage('mailbox', { base: app.basePath, mails: needs.mailbox.mails() }))
  })
  app.get<{ Params: { id: string } }>('/dev/mailbox/:id', (request, reply) => {
    const mail = needs.mailbox.mails().find(({ id }) => id === request.params.id)
    if (mail === undefined) throw new OAuthError('not_found', 'there is no such mail')
    return reply.headers(mailHeaders).send(openingLinksOutside(mail.html))
  })
}

/**
 * Reads the decision from the query if it contains `auth_req_id`, and from the body if not. The query is accepted
 * because the conformance suite of the OpenID Foundation cannot send a body. Other callers should use the body, because
 * proxies log queries.
 */
function readDecision(request: FastifyRequest): Form {
  const query = readQuery(request.url)
  return query.has('auth_req_id') ? query : readJsonFields(request.headers['content-type'], rawBody(request))
}

/** A client notification endpoint that records pings and pushes, like doorkeeper-ciba's `testcibacallback`. */
function callbackRoutes(app: FastifyInstance, { clock, onCall }: DevelopmentNeeds): void {
  const received = new Map<string, ReceivedCall[]>()

  app.post<{ Params: { name: string }; Body: Buffer }>('/dev/callback/:name', async (request, reply) => {
    const { name } = request.params
    const { authorization, 'content-type': contentType } = request.headers
    const text = request.body?.toString('utf8') ?? ''
    const calls = received.get(name) ?? []
    calls.push({ at: new Date(clock.now()).toISOString(), authorization, contentType, body: readBody(text) })
    received.delete(name)
    received.set(name, calls.slice(-callsKept))
    if (received.size > namesKept) received.delete(received.keys().next().value!)
    onCall?.({ name, authorization, contentType, body: text, status: 204 })
    return reply.code(204).send()
  })

  app.get<{ Params: { name: string } }>('/dev/callback/:name', (request, reply) =>
    reply.send({ calls: received.get(request.params.name) ?? [] }),
  )
}

function readBody(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    return isTooDeep(value) ? text : value
  } catch {
    return text
  }
}
