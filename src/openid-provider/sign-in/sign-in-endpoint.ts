/** Sign-in and consent on the authentication device: the interactions of oidc-provider, with a password or a passkey. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { errors, type InteractionResults } from 'oidc-provider'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { rawBody } from '../../platform/http/answer.ts'
import { callerOf } from '../../platform/http/connection.ts'
import { readForm, readJsonFields } from '../../platform/http/form.ts'
import { Overloaded } from '../../platform/http/unavailable.ts'
import { chooseLanguage, type Language, type Say, type Texts } from '../../platform/i18n/texts.ts'
import {
  type Framing,
  framed,
  pageHeaders,
  pagesIn,
  passkeyScript,
  renderError,
  styleSheet,
} from '../../platform/pages/pages.ts'
import type { Passkeys } from '../../user/passkey/passkey.ts'
import { acceptsOnlyPasskey, PASSKEY_ACR, PASSKEY_AMR } from '../../user/passkey/passkey-strength.ts'
import type { UserHooks } from '../../user/user.ts'
import { holdingGenerations } from '../held-generations.ts'
import type { CurrentProvider, Provider } from '../openid-provider.ts'
import type { KnownBrowsers } from './known-browsers.ts'
import type { PasswordSignIn, PasswordTryOutcome } from './password-sign-in.ts'

export interface SignInNeeds {
  provider: CurrentProvider
  users: UserHooks
  passkeys: Passkeys
  texts: Texts
  /** Holds on to the generation the user is in. Resolves to whether the user may sign in. */
  beginFor(userId: string): Promise<boolean>
  framing: Framing
  passwordSignIn: PasswordSignIn
  knownBrowsers: KnownBrowsers
  clock: Clock
  audit: Audit
}

type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>

/** What went wrong, for the reader, and the name as it was typed. */
interface Mishap {
  status: number
  text: string
  name?: string
  /** Seconds. */
  retryAfter?: number
}

const renderPage = pagesIn<'sign-in' | 'consent'>(new URL('./views/', import.meta.url))

export function signInEndpoint(app: FastifyInstance, needs: SignInNeeds): void {
  const { provider, users, passkeys, texts, beginFor, passwordSignIn, knownBrowsers, clock, audit } = needs
  const headers = framed(pageHeaders, needs.framing)

  asset('doorbell.css', 'text/css', styleSheet)
  asset('passkey.js', 'text/javascript', passkeyScript)

  app.get('/sign-in/:uid', async (request, reply) => {
    const interaction = await find(request, reply)
    return interaction ? show(request, reply, interaction) : over(request, reply)
  })

  post('/sign-in/:uid', async (request, reply) => {
    const form = readForm(request.headers['content-type'], rawBody(request))
    if (form.has('password')) passwordSignIn.refuseIfFull({ address: request.ip, cookies: request.headers.cookie })
    const interaction = await find(request, reply)
    if (interaction === undefined) return over(request, reply)
    if (form.has('cancel'))
      return finish(request, reply, { error: 'access_denied', error_description: 'the user cancelled' })
    if (interaction.prompt.name === 'consent') return finish(request, reply, await grantAsked(interaction))
    return signInByPassword(request, reply, interaction, form)
  })

  app.post('/sign-in/:uid/passkey/options', async (request, reply) => {
    const interaction = await find(request, reply)
    if (interaction === undefined) return over(request, reply)
    return reply.header('cache-control', 'no-store').send(await passkeys.signInOptions(interaction.uid))
  })

  post('/sign-in/:uid/passkey', async (request, reply) => {
    const interaction = await find(request, reply)
    if (interaction === undefined) return over(request, reply)
    // Whoever is at the consent page has signed in.
    if (interaction.prompt.name !== 'login') return show(request, reply, interaction)
    const form = readJsonFields(request.headers['content-type'], rawBody(request))
    return signInByPasskey(request, reply, interaction, form.get('passkey') ?? '')
  })

  function post(path: string, answer: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>): void {
    app.post(path, (request, reply) => holdingGenerations(() => answer(request, reply)))
  }

  function asset(name: string, type: string, text: string): void {
    app.get(`/assets/${name}`, (_request, reply) =>
      reply.header('content-type', `${type}; charset=utf-8`).header('cache-control', 'public, max-age=300').send(text),
    )
  }

  async function signInByPassword(
    request: FastifyRequest,
    reply: FastifyReply,
    interaction: Interaction,
    form: ReadonlyMap<string, string>,
  ) {
    const say = sayTo(request, interaction)
    if (acceptsOnlyPasskey(interaction.params.acr_values)) {
      return show(request, reply, interaction, { status: 403, text: say('approve.need_passkey') })
    }
    const about = { client: String(interaction.params.client_id), address: request.ip, by: 'password' }
    const name = form.get('name') ?? ''
    const password = form.get('password') ?? ''
    const from = { address: request.ip, cookies: request.headers.cookie, connection: callerOf(reply) }
    const outcome = await unlessOverloaded(() =>
      passwordSignIn.attempt({ name, password, clientId: about.client, ...from }),
    )
    switch (outcome.kind) {
      case 'overloaded':
        return show(request, reply, interaction, { status: 503, text: say('sign_in.busy'), name, retryAfter: 5 })
      case 'paused':
        audit({ event: 'sign_in.paused', ...about })
        return waitFirst(request, reply, interaction, outcome.until, name)
      case 'wrong':
        audit({ event: outcome.isHeldBack ? 'sign_in.paused' : 'sign_in.failed', ...about })
        return show(request, reply, interaction, { status: 401, text: say('sign_in.wrong'), name })
      case 'right':
        audit({ event: 'sign_in.succeeded', user: outcome.user.id, ...about })
        return welcome(request, reply, { accountId: outcome.user.id, amr: ['pwd'] })
    }
  }

  function waitFirst(
    request: FastifyRequest,
    reply: FastifyReply,
    interaction: Interaction,
    until: number,
    name: string,
  ) {
    const retryAfter = Math.max(1, Math.ceil((until - clock.now()) / 1000))
    const when = inHowLong(retryAfter, languageOf(request, interaction))
    const text = sayTo(request, interaction)('sign_in.paused', { when })
    return show(request, reply, interaction, { status: 429, text, name, retryAfter })
  }

  async function signInByPasskey(
    request: FastifyRequest,
    reply: FastifyReply,
    interaction: Interaction,
    response: string,
  ) {
    const about = { client: String(interaction.params.client_id), address: request.ip, by: 'passkey' }
    const userId = await passkeys.signIn(interaction.uid, response)
    // First whether the user may sign in, then who it is: of two the other way round, an ending could come in between.
    const mayBegin = userId !== undefined && (await beginFor(userId))
    const user = mayBegin ? await users.find(userId) : null
    if (user === null || user.disabled) {
      audit({ event: 'sign_in.failed', ...about })
      const text = sayTo(request, interaction)('sign_in.passkey_failed')
      return show(request, reply, interaction, { status: 401, text })
    }
    audit({ event: 'sign_in.succeeded', user: user.id, ...about })
    return welcome(request, reply, { accountId: user.id, acr: PASSKEY_ACR, amr: [...PASSKEY_AMR] })
  }

  /** From now on the browser is known for this user. */
  async function welcome(
    request: FastifyRequest,
    reply: FastifyReply,
    login: { accountId: string; acr?: string; amr: string[] },
  ) {
    reply.header('set-cookie', await knownBrowsers.remember(login.accountId, request.headers.cookie))
    return finish(request, reply, { login })
  }

  /** The interaction whose cookie the browser holds; a link without it leads nowhere. */
  async function find(request: FastifyRequest, reply: FastifyReply): Promise<Interaction | undefined> {
    try {
      const interaction = await provider().interactionDetails(request.raw, reply.raw)
      return interaction.uid === (request.params as { uid: string }).uid ? interaction : undefined
    } catch (error) {
      if (error instanceof errors.SessionNotFound) return undefined
      throw error
    }
  }

  async function grantAsked(interaction: Interaction): Promise<InteractionResults> {
    const { missingOIDCScope = [], missingOIDCClaims = [] } = interaction.prompt.details as Record<string, string[]>
    const { Grant } = provider()
    const existing = interaction.grantId ? await Grant.find(interaction.grantId) : undefined
    const grant =
      existing ??
      new Grant({
        accountId: interaction.session!.accountId,
        clientId: String(interaction.params.client_id),
      })
    grant.addOIDCScope(missingOIDCScope.join(' '))
    grant.addOIDCClaims(missingOIDCClaims)
    return { consent: { grantId: await grant.save() } }
  }

  async function finish(request: FastifyRequest, reply: FastifyReply, result: InteractionResults) {
    const mergeWithLastSubmission = result.error === undefined
    const next = await provider().interactionResult(request.raw, reply.raw, result, { mergeWithLastSubmission })
    return reply.redirect(next, 303)
  }

  async function show(request: FastifyRequest, reply: FastifyReply, interaction: Interaction, mishap?: Mishap) {
    const client = await provider().Client.find(String(interaction.params.client_id))
    const isConsent = interaction.prompt.name === 'consent'
    const reader = isConsent ? await users.find(String(interaction.session?.accountId)) : null
    const lang = languageOf(request, interaction, reader?.locale)
    const say = texts.in(lang)
    const { missingOIDCScope = [] } = interaction.prompt.details as { missingOIDCScope?: string[] }
    const page = renderPage(isConsent ? 'consent' : 'sign-in', {
      lang,
      say,
      uid: interaction.uid,
      client: client?.clientName ?? interaction.params.client_id,
      scopes: missingOIDCScope.map((scope) => describeScope(scope, say)),
      name: mishap?.name || String(interaction.params.login_hint ?? ''),
      onlyPasskey: acceptsOnlyPasskey(interaction.params.acr_values),
      problem: mishap?.text,
    })
    if (mishap?.retryAfter !== undefined) reply.header('retry-after', String(mishap.retryAfter))
    return reply
      .code(mishap?.status ?? 200)
      .headers(headers)
      .send(page)
  }

  function over(request: FastifyRequest, reply: FastifyReply) {
    const lang = languageOf(request)
    const say = texts.in(lang)
    const values = { lang, say, title: say('sign_in.over_title'), description: say('sign_in.over') }
    return reply.code(410).headers(headers).send(renderError(values))
  }

  function sayTo(request: FastifyRequest, interaction: Interaction): Say {
    return texts.in(languageOf(request, interaction))
  }
}

/** A user sits before a page, which is to be shown again. */
async function unlessOverloaded(
  work: () => Promise<PasswordTryOutcome>,
): Promise<PasswordTryOutcome | { kind: 'overloaded' }> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof Overloaded) return { kind: 'overloaded' }
    throw error
  }
}

/** @param locale of the user, where it is known already who reads */
function languageOf(request: FastifyRequest, interaction?: Interaction, locale?: string): Language {
  const { ui_locales: asked } = interaction?.params ?? {}
  return chooseLanguage(locale, typeof asked === 'string' ? asked : undefined, request.headers['accept-language'])
}

/** "in 30 seconds", "in 4 minutes", in the reader's language. */
function inHowLong(seconds: number, language: Language): string {
  const format = new Intl.RelativeTimeFormat(language)
  return seconds < 120 ? format.format(seconds, 'second') : format.format(Math.ceil(seconds / 60), 'minute')
}

/** A scope of the operator's own has no text: it is shown as it is. */
function describeScope(scope: string, say: Say): string {
  const key = `scope.${scope}`
  const text = say(key)
  return text === key ? say('scope.other', { scope }) : text
}
