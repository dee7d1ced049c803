/**
 * Routes for the push subscription of the browser: to subscribe, to unsubscribe, and to make sure that the subscription
 * belongs to the signed-in user.
 */
import type { FastifyInstance, FastifyReply } from 'fastify'
import { fingerprint } from '../platform/crypto.ts'
import { type DeviceApi, succeeded } from './device-api.ts'
import { type Cookies, rememberedForSeconds } from './session.ts'
import { formOf, type Shell, staleForm } from './shell.ts'

export interface NotificationNeeds {
  api: DeviceApi
  cookies: Cookies
}

export function notificationsEndpoint(app: FastifyInstance, shell: Shell, { api, cookies }: NotificationNeeds): void {
  const { readerOf, act, isTrustworthy } = shell

  act('/notifications', async (session, form, _from, reply) => {
    const endpoint = form.get('endpoint') ?? ''
    if (form.has('subscription')) {
      succeeded(await api.subscribe(session.accessToken, form.get('subscription')!))
      rememberBrowser(reply, endpoint)
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
    if (body.subscribed) rememberBrowser(reply, endpoint)
    return reply.code(status).send(body)
  })

  function rememberBrowser(reply: FastifyReply, endpoint: string): void {
    const sealed = cookies.sealBrowser(fingerprint(endpoint))
    reply.setCookie(cookies.browserName, sealed, { ...cookies.options, maxAge: rememberedForSeconds })
  }
}
