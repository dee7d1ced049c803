/** The page of past decisions, where the user can revoke access and block clients. */
import type { FastifyInstance } from 'fastify'
import { type DeviceApi, succeeded } from './device-api.ts'
import { nameOf, type Shell } from './shell.ts'

export function activityEndpoint(app: FastifyInstance, shell: Shell, api: DeviceApi): void {
  const { readerOf, page, act, toSignIn } = shell

  app.get('/activity', async (request, reply) => {
    const reader = readerOf(request)
    if (reader.session === undefined) return toSignIn(reply, '/activity')
    const answer = await api.activity(reader.session.accessToken, reader.language)
    if (answer.status === 401) return toSignIn(reply, '/activity')
    const format = new Intl.DateTimeFormat(reader.language, {
      dateStyle: 'medium',
      timeStyle: 'short',
      timeZone: 'UTC',
    })
    const entries = succeeded(answer).activity.map((entry) => ({
      ...entry,
      name: nameOf(entry),
      at: new Date(entry.decided_at * 1000).toISOString(),
      date: `${format.format(entry.decided_at * 1000)} UTC`,
    }))
    const { done, client } = request.query as { done?: string; client?: string }
    const known = entries.find((entry) => entry.client.client_id === client)
    const message = ['revoked', 'blocked', 'unblocked'].includes(done ?? '')
      ? reader.say(`activity.${done}`, { client: known?.name ?? '' })
      : undefined
    return page(reply, 'activity', reader, { entries, message })
  })

  act('/activity/revoke', async (session, form, from) => {
    succeeded(await api.revoke(session.accessToken, form.get('request_id') ?? '', from))
    return '/activity?done=revoked'
  })

  act('/activity/block', async (session, form, from) => {
    const clientId = form.get('client_id') ?? ''
    const blocked = form.get('blocked') === 'true'
    succeeded(await api.block(session.accessToken, clientId, blocked, from))
    return `/activity?done=${blocked ? 'blocked' : 'unblocked'}&client=${encodeURIComponent(clientId)}`
  })
}
