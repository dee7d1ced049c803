/** The page of the user's passkeys. */
import type { FastifyInstance } from 'fastify'
import { type DeviceApi, succeeded } from './device-api.ts'
import { safeReturn } from './session.ts'
import { formOf, type Shell, staleForm } from './shell.ts'

export function passkeysEndpoint(app: FastifyInstance, shell: Shell, api: DeviceApi): void {
  const { readerOf, page, act, isTrustworthy, toSignIn } = shell

  app.get('/passkeys', async (request, reply) => {
    const reader = readerOf(request)
    const { done, request: requestId } = request.query as { done?: string; request?: string }
    const here = pageFor(requestId)
    if (reader.session === undefined) return toSignIn(reply, here)
    const answer = await api.passkeys(reader.session.accessToken)
    if (answer.status === 401) return toSignIn(reply, here)
    const format = new Intl.DateTimeFormat(reader.language, { dateStyle: 'medium', timeZone: 'UTC' })
    const date = (seconds: number | undefined) => (seconds === undefined ? undefined : format.format(seconds * 1000))
    const { passkeys: known, sign_in_needed: needed } = succeeded(answer)
    const passkeys = known.map((key) => ({
      ...key,
      made: date(key.created_at),
      used: date(key.used_at),
    }))
    const message = ['added', 'removed', 'failed', 'too_often'].includes(done ?? '')
      ? reader.say(`passkeys.${done}`)
      : undefined
    const again =
      needed && `/session/start?to=${encodeURIComponent(here)}&again=${needed.acr_values ? 'passkey' : 'yes'}`
    const isForRequest = here !== '/passkeys'
    return page(reply, 'passkeys', reader, { passkeys, message, again, requestId: isForRequest && requestId })
  })

  app.post('/passkeys/options', async (request, reply) => {
    const { session } = readerOf(request)
    if (session === undefined || !isTrustworthy(request, formOf(request), session)) throw staleForm()
    const answer = await api.passkeyOptions(session.accessToken)
    return reply.code(answer.status).send(answer.body)
  })

  act('/passkeys', async (session, form, from, { request }) => {
    const browser = request.headers['user-agent']
    const answer = await api.addPasskey(session.accessToken, form.get('passkey') ?? '', from, browser)
    const requestId = form.get('request')
    const here = pageFor(requestId)
    // Status 401 means that the sign-in is not recent. The page of passkeys tells the user this.
    if (answer.status === 401) return here
    if (answer.body.too_often) return withResult(here, 'too_often')
    // Status 400 means that the passkey was not accepted, or that the user has too many passkeys.
    if (answer.status === 400) return withResult(here, 'failed')
    succeeded(answer)
    return here === '/passkeys' ? withResult(here, 'added') : safeReturn(`/approve/${requestId}`)
  })

  act('/passkeys/remove', async (session, form, from) => {
    const answer = await api.removePasskey(session.accessToken, form.get('id') ?? '', from)
    if (answer.status === 401) return '/passkeys'
    // Status 404 means that the passkey was already removed on another page.
    if (answer.status !== 404) succeeded(answer)
    return '/passkeys?done=removed'
  })
}

/**
 * Returns the path of the page of passkeys.
 * @param requestId the request that the user wants to approve with a new passkey; anything else is ignored
 */
function pageFor(requestId: string | undefined): string {
  const path = safeReturn(`/passkeys?request=${requestId}`)
  return requestId === undefined || path === '/' ? '/passkeys' : path
}

function withResult(path: string, result: string): string {
  return `${path}${path.includes('?') ? '&' : '?'}done=${result}`
}
