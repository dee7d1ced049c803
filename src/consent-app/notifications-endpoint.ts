/**
 * Routes for the push subscription of the browser: to subscribe, to unsubscribe, to make sure that the subscription
 * belongs to the signed-in user, and to store the subscription by which the browser has replaced another.
 */
import type { FastifyInstance, FastifyReply } from 'fastify'
import { fingerprint } from '../platform/crypto.ts'
import { type DeviceApi, succeeded } from './device-api.ts'
import { type Cookies, rememberedForSeconds, type Session } from './session.ts'
import { formOf, type Shell, staleForm } from './shell.ts'

export interface NotificationNeeds {
  api: DeviceApi
  cookies: Cookies
  /** The public key with which browsers subscribe; undefined if push messages are off. */
  pushKey: string | undefined
}

export function notificationsEndpoint(app: FastifyInstance, shell: Shell, needs: NotificationNeeds): void {
  const { api, cookies, pushKey } = needs
  const { readerOf, act, isTrustworthy, isFromOurScript } = shell

  act('/notifications', async (session, form, _from, reply) => {
    const endpoint = form.get('endpoint') ?? ''
    if (form.has('subscription')) {
      succeeded(await api.subscribe(session.accessToken, form.get('subscription')!))
      rememberBrowser(reply, session, endpoint)
    } else {
      succeeded(await api.unsubscribe(session.accessToken, endpoint))
      reply.clearCookie(cookies.browserName, cookies.options)
    }
    return '/'
  })

  // Each page calls this route if its browser has a push subscription. The subscription may belong to a user who was
  // signed in before.
  app.post('/notifications/claim', async (request, reply) => {
    const { session } = readerOf(request)
    const form = formOf(request)
    if (session === undefined || !isTrustworthy(request, form, session)) throw staleForm()
    const endpoint = form.get('endpoint') ?? ''
    const { status, body } = await api.claimSubscription(session.accessToken, { endpoint })
    if (body.subscribed) rememberBrowser(reply, session, endpoint)
    return reply.code(status).send(body)
  })

  // The service worker calls this route when the browser has replaced the subscription. A page calls it too if the browser
  // has another subscription than the server: then the service worker was not called, or no user was signed in. Only the
  // user who has switched on notifications in this browser gets messages by the new subscription.
  app.post('/notifications/renew', async (request, reply) => {
    const { session } = readerOf(request)
    if (session === undefined || !isFromOurScript(request)) throw staleForm()
    const subscription = formOf(request).get('subscription') ?? ''
    const endpoint = endpointIn(subscription)
    const before = cookies.openBrowser(request.cookies[cookies.browserName])
    const isOfUser = before?.userId === session.userId
    // The server removes a subscription that the push service refuses. Such a subscription is not stored again.
    const isNew = before?.pushEndpointHash !== fingerprint(endpoint)
    if (!isOfUser || !isNew) return reply.send({ subscribed: false })
    const fields = { subscription, replaces_hash: before.pushEndpointHash }
    succeeded(await api.replaceSubscription(session.accessToken, fields))
    rememberBrowser(reply, session, endpoint)
    return reply.send({ subscribed: true })
  })

  // With this key, the service worker subscribes again if the browser has removed the subscription.
  app.get('/notifications/key', (_request, reply) => reply.send({ key: pushKey ?? null }))

  function rememberBrowser(reply: FastifyReply, { userId }: Session, endpoint: string): void {
    const sealed = cookies.sealBrowser({ pushEndpointHash: fingerprint(endpoint), userId })
    reply.setCookie(cookies.browserName, sealed, { ...cookies.options, maxAge: rememberedForSeconds })
  }
}

/** Returns the endpoint in the JSON text of a subscription, or '' if there is none. The device API checks the whole text. */
function endpointIn(subscription: string): string {
  try {
    const { endpoint } = JSON.parse(subscription) as { endpoint?: unknown }
    return typeof endpoint === 'string' ? endpoint : ''
  } catch {
    return ''
  }
}
