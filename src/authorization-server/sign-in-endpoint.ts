/** Sign-in and consent on the authentication device: the interactions of oidc-provider, with a password. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { errors, type InteractionResults } from 'oidc-provider'
import type { ClientMetadata } from '../client/client-metadata.ts'
import { rawBody } from '../http/answer.ts'
import { readForm } from '../http/form.ts'
import type { Log } from '../log.ts'
import { pageHeaders, renderPage, styleSheet } from '../pages/pages.ts'
import type { UserHooks } from '../user-hint/user.ts'
import type { Provider } from './authorization-server.ts'

export interface SignInNeeds {
  provider: Provider
  users: UserHooks
  findClient(id: string): Promise<ClientMetadata | undefined>
  log: Log
}

type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>

export function signInEndpoint(app: FastifyInstance, { provider, users, findClient, log }: SignInNeeds): void {
  app.get('/assets/doorbell.css', (_request, reply) =>
    reply
      .header('content-type', 'text/css; charset=utf-8')
      .header('cache-control', 'public, max-age=300')
      .send(styleSheet),
  )

  app.get('/sign-in/:uid', async (request, reply) => {
    const interaction = await find(request, reply)
    return interaction ? show(reply, interaction) : over(reply)
  })

  app.post('/sign-in/:uid', async (request, reply) => {
    const interaction = await find(request, reply)
    if (interaction === undefined) return over(reply)
    const form = readForm(request.headers['content-type'], rawBody(request))
    if (form.has('cancel'))
      return finish(request, reply, { error: 'access_denied', error_description: 'the user cancelled' })
    if (interaction.prompt.name === 'consent') return finish(request, reply, await grantAsked(interaction))

    const user = await whoSignsIn(form, String(interaction.params.client_id))
    if (user === undefined) {
      log.info({ event: 'sign_in.failed', client: interaction.params.client_id })
      return show(reply.code(401), interaction, form.get('name') ?? '', 'Name or password is wrong.')
    }
    log.info({ event: 'sign_in.succeeded', user: user.id, client: interaction.params.client_id })
    return finish(request, reply, { login: { accountId: user.id, amr: ['pwd'] } })
  })

  /** The same work for a user who exists and one who does not: the answer's time tells nothing. */
  async function whoSignsIn(form: ReadonlyMap<string, string>, clientId: string) {
    const name = form.get('name') ?? ''
    const client = await findClient(clientId)
    const user = client && name ? await users.findByHint({ kind: 'login_hint', value: name }, client) : null
    const right = await users.verifyPassword?.(user ?? { id: '' }, form.get('password') ?? '')
    return right && user && !user.disabled ? user : undefined
  }

  /** The interaction whose cookie the browser holds; a link without it leads nowhere. */
  async function find(request: FastifyRequest, reply: FastifyReply): Promise<Interaction | undefined> {
    try {
      const interaction = await provider.interactionDetails(request.raw, reply.raw)
      return interaction.uid === (request.params as { uid: string }).uid ? interaction : undefined
    } catch (error) {
      if (error instanceof errors.SessionNotFound) return undefined
      throw error
    }
  }

  async function grantAsked(interaction: Interaction): Promise<InteractionResults> {
    const { missingOIDCScope = [], missingOIDCClaims = [] } = interaction.prompt.details as Record<string, string[]>
    const existing = interaction.grantId ? await provider.Grant.find(interaction.grantId) : undefined
    const grant =
      existing ??
      new provider.Grant({
        accountId: interaction.session!.accountId,
        clientId: String(interaction.params.client_id),
      })
    grant.addOIDCScope(missingOIDCScope.join(' '))
    grant.addOIDCClaims(missingOIDCClaims)
    return { consent: { grantId: await grant.save() } }
  }

  async function finish(request: FastifyRequest, reply: FastifyReply, result: InteractionResults) {
    const mergeWithLastSubmission = result.error === undefined
    const next = await provider.interactionResult(request.raw, reply.raw, result, { mergeWithLastSubmission })
    return reply.redirect(next, 303)
  }

  async function show(reply: FastifyReply, interaction: Interaction, name = '', problem?: string) {
    const client = await provider.Client.find(String(interaction.params.client_id))
    const values = {
      uid: interaction.uid,
      client: client?.clientName ?? interaction.params.client_id,
      scopes: (interaction.prompt.details as { missingOIDCScope?: string[] }).missingOIDCScope ?? [],
      name: name || String(interaction.params.login_hint ?? ''),
      problem,
    }
    const page = interaction.prompt.name === 'consent' ? 'consent' : 'sign-in'
    return reply.headers(pageHeaders).send(renderPage(page, values))
  }

  function over(reply: FastifyReply) {
    const description =
      'This sign-in is over or was started in another browser. Go back to where you came from and start again.'
    return reply
      .code(410)
      .headers(pageHeaders)
      .send(renderPage('error', { title: 'Start again', description }))
  }
}
