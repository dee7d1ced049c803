/**
 * /demo: one page that shows CIBA to newcomers. A till (a cash register) sends an authentication request, and the user
 * decides on a phone. The page shows the till, the phone, and every message that they exchange with Doorbell. Nothing
 * is simulated: the till is a real client, and the phone is the consent app.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '../platform/clock.ts'
import { rawBody } from '../platform/http/answer.ts'
import { type EventStream, openEventStream, tooManyStreams } from '../platform/http/event-stream.ts'
import { type Form, readForm } from '../platform/http/form.ts'
import { OAuthError } from '../platform/oauth-error.ts'
import { fileText, pageHeaders, pagesIn } from '../platform/pages/pages.ts'
import { type Mode, modes, type Order } from './order.ts'
import type { Till } from './till.ts'
import type { Answered, Wire } from './wire.ts'

const renderPage = pagesIn<'demo'>(new URL('./views/', import.meta.url))

/** The page of the demo may show the phone in a frame (`frame-src`). No page may show the demo itself in a frame. */
const demoHeaders = {
  ...pageHeaders,
  'content-security-policy': `${pageHeaders['content-security-policy']}; frame-src 'self'; form-action 'self'`,
}

export interface DemoNeeds {
  /** The paths of the device API that the phone calls. */
  paths: { authinfo: string; complete: string }
  till: Till
  wire: Wire
  /** The number of event streams that may be open at the same time. */
  mostStreams: number
  clock: Clock
}

export function demoEndpoint(app: FastifyInstance, { paths, till, wire, mostStreams, clock }: DemoNeeds): void {
  watchPhone(app, paths, wire)

  app.get('/demo', (_request, reply) => reply.headers(demoHeaders).send(renderPage('demo', { base: app.basePath })))
  asset('demo.css', 'text/css', fileText(new URL('./views/demo.css', import.meta.url)))
  asset('demo.js', 'text/javascript', fileText(new URL('./scripts/demo.js', import.meta.url)))

  app.post('/demo/ring', (request, reply) => {
    if (request.headers['sec-fetch-site'] === 'cross-site')
      throw new OAuthError('access_denied', 'cross-site requests are not allowed')
    const ring = till.start(readOrder(readForm(request.headers['content-type'], rawBody(request))))
    return reply.code(202).send({ ring })
  })

  const streams = new Set<EventStream>()
  app.get('/demo/events', { exposeHeadRoute: false }, (_request, reply) => openStream(reply))
  app.addHook('preClose', async () => {
    till.stop()
    for (const stream of streams) stream.end()
  })

  function asset(name: string, type: string, text: string): void {
    app.get(`/assets/${name}`, (_request, reply) =>
      reply.header('content-type', `${type}; charset=utf-8`).header('cache-control', 'no-cache').send(text),
    )
  }

  /**
   * Opens an event stream that sends all messages so far, then each new message. When the response to a message
   * arrives, the stream sends the message again, with the response and the same id.
   */
  function openStream(reply: FastifyReply): void {
    if (streams.size >= mostStreams) throw tooManyStreams()
    const stream = openEventStream(reply, {
      clock,
      onEnd() {
        stopTill()
        stopWire()
        streams.delete(stream)
      },
    })
    streams.add(stream)
    const tell = (event: string, data: unknown) => stream.send(event, JSON.stringify(data))
    const stopTill = till.listen((display) => tell('till', display))
    const stopWire = wire.listen((message) => tell('wire', message))
    const display = till.display()
    if (display) tell('till', display)
    for (const message of wire.messages()) tell('wire', message)
  }
}

function readOrder(form: Form): Order {
  const mode = modes.find((known): known is Mode => known === form.get('mode'))
  if (mode === undefined) throw new OAuthError('invalid_request', 'mode must be poll, ping or push')
  const item = form.get('item')?.trim() ?? ''
  const amount = form.get('amount')?.trim() ?? ''
  if (item.length < 1 || item.length > 40) throw new OAuthError('invalid_request', 'item must have 1 to 40 characters')
  if (!/^\d{1,5}([.,]\d{2})?$/.test(amount)) {
    throw new OAuthError('invalid_request', 'amount must be a number such as 4.20')
  }
  return { mode, item, amount }
}

/** Shows every call of the device API as a message from the phone, even if another device has made the call. */
function watchPhone(app: FastifyInstance, paths: DemoNeeds['paths'], wire: Wire): void {
  const underWay = new WeakMap<FastifyRequest, (answer: Answered) => void>()

  app.addHook('preHandler', async (request) => {
    const path = request.routeOptions.url
    if (path !== paths.authinfo && path !== paths.complete) return
    const { authorization, 'content-type': contentType } = request.headers
    const body = rawBody(request).toString('utf8')
    const meaning = path === paths.authinfo ? meaningOfLook(request.url + body) : meaningOfDecision(body)
    const message = { from: 'phone', to: 'doorbell', method: request.method, path: request.url, meaning } as const
    underWay.set(request, wire.send({ ...message, authorization, contentType, body }))
  })

  app.addHook('onSend', async (request, reply, payload) => {
    const contentType = String(reply.getHeader('content-type') ?? '')
    const body = typeof payload === 'string' ? payload : undefined
    underWay.get(request)?.({
      status: reply.statusCode,
      contentType,
      body,
      meaning: meaningOfAnswer(request.url, body),
    })
  })
}

function meaningOfLook(asked: string): string {
  if (/request_id|auth_req_id/.test(asked)) return 'The phone fetches the request: which client asks, and for what?'
  return 'The phone fetches the requests that wait for Alice.'
}

function meaningOfAnswer(asked: string, body = ''): string | undefined {
  const looksBack = asked.includes('request_id') && /"status":"(approved|redeemed|denied|expired)"/.test(body)
  return looksBack ? 'The phone fetches the status of the request.' : undefined
}

function meaningOfDecision(body: string): string {
  if (/approved|\bA\b/.test(body)) return 'Alice approves.'
  return /"report"|report=/.test(body) ? 'Alice refuses, and says it was not her.' : 'Alice refuses.'
}
