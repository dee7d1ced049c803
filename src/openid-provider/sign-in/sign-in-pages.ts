/** The pages of a sign-in, and the redirect after the last page. Each sign-in is an interaction of oidc-provider. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { errors, type InteractionResults } from 'oidc-provider'
import { chooseLanguage, type Language, type Say, type Texts } from '../../platform/i18n/texts.ts'
import { type Framing, framed, pageHeaders, pagesIn, renderError } from '../../platform/pages/pages.ts'
import { acceptsOnlyPasskey } from '../../user/passkey/passkey-strength.ts'
import type { UserHooks } from '../../user/user.ts'
import type { CurrentProvider, Provider } from '../openid-provider.ts'
import type { KnownBrowsers } from './known-browsers.ts'

export interface SignInPageNeeds {
  provider: CurrentProvider
  users: UserHooks
  texts: Texts
  framing: Framing
  knownBrowsers: KnownBrowsers
  /** Whether passwords can be checked. If not, the page offers only passkeys. */
  checksPasswords: boolean
}

/** A sign-in that is not finished. */
export type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>

/** An error message for the user, and the user name as it was typed. */
export interface Mishap {
  status: number
  text: string
  name?: string
  /** Seconds. */
  retryAfter?: number
}

/** Seconds after which the user may try again if the queue of passwords is full. */
const retryAfterSeconds = 5

const renderPage = pagesIn<'sign-in' | 'consent'>(new URL('./views/', import.meta.url))

export type SignInPages = ReturnType<typeof createSignInPages>

export function createSignInPages(needs: SignInPageNeeds) {
  const { provider, texts, knownBrowsers } = needs
  const headers = framed(pageHeaders, needs.framing)
  const busyPageIn = renderingBusyPage(texts)

  /**
   * Resolves to the interaction that belongs to the cookie of the browser. Resolves to undefined if there is none, or
   * if the URL contains the id of another interaction, because a URL alone must give no access.
   */
  async function find(request: FastifyRequest, reply: FastifyReply): Promise<Interaction | undefined> {
    try {
      const interaction = await provider().interactionDetails(request.raw, reply.raw)
      return interaction.uid === (request.params as { uid: string }).uid ? interaction : undefined
    } catch (error) {
      if (error instanceof errors.SessionNotFound) return undefined
      throw error
    }
  }

  /** Finishes the sign-in, and sets the cookie that makes this browser known for the user (`known-browsers.ts`). */
  async function welcome(
    request: FastifyRequest,
    reply: FastifyReply,
    login: { accountId: string; acr?: string; amr: string[] },
  ) {
    reply.header('set-cookie', await knownBrowsers.remember(login.accountId, request.headers.cookie))
    return finish(request, reply, { login })
  }

  async function finish(request: FastifyRequest, reply: FastifyReply, result: InteractionResults) {
    const mergeWithLastSubmission = result.error === undefined
    try {
      const next = await provider().interactionResult(request.raw, reply.raw, result, { mergeWithLastSubmission })
      return reply.redirect(next, 303)
    } catch (error) {
      // Another call has finished the sign-in since `find` was called, or the sign-in has expired.
      if (error instanceof errors.SessionNotFound) return over(request, reply)
      throw error
    }
  }

  function over(request: FastifyRequest, reply: FastifyReply) {
    const lang = languageOf(request)
    const say = texts.in(lang)
    const base = request.server.basePath
    const values = { base, lang, say, title: say('sign_in.over_title'), description: say('sign_in.over') }
    return reply.code(410).headers(headers).send(renderError(values))
  }

  /**
   * Responds with a page that asks the user to try again later, because the password cannot be checked now. Reads
   * nothing from the database.
   */
  function busy(request: FastifyRequest, reply: FastifyReply) {
    const page = busyPageIn(languageOf(request), request.server.basePath)
    return reply.code(503).header('retry-after', String(retryAfterSeconds)).headers(headers).send(page)
  }

  function sayTo(request: FastifyRequest, interaction: Interaction): Say {
    return texts.in(languageOf(request, interaction))
  }

  return { find, welcome, finish, over, busy, sayTo, show: showing(needs, headers) }
}

/**
 * Returns the function that renders the page of `busy`. It renders only once for each language, because many callers
 * may get this page at the same time.
 */
function renderingBusyPage(texts: Texts): (lang: Language, base: string) => string {
  const rendered = new Map<Language, string>()
  return (lang, base) => {
    const known = rendered.get(lang)
    if (known !== undefined) return known
    const say = texts.in(lang)
    // The page has the address of the sign-in, so the link leads back to the form.
    const link = { href: '?', text: say('error.try_again') }
    const page = renderError({ base, lang, say, title: say('error.title'), description: say('sign_in.busy'), link })
    rendered.set(lang, page)
    return page
  }
}

function showing({ provider, users, texts, checksPasswords }: SignInPageNeeds, headers: Record<string, string>) {
  return async function show(request: FastifyRequest, reply: FastifyReply, interaction: Interaction, mishap?: Mishap) {
    const client = await provider().Client.find(String(interaction.params.client_id))
    const isConsent = interaction.prompt.name === 'consent'
    const reader = isConsent ? await users.find(String(interaction.session?.accountId)) : null
    const lang = languageOf(request, interaction, reader?.locale)
    const say = texts.in(lang)
    const { missingOIDCScope = [] } = interaction.prompt.details as { missingOIDCScope?: string[] }
    const page = renderPage(isConsent ? 'consent' : 'sign-in', {
      base: request.server.basePath,
      lang,
      say,
      uid: interaction.uid,
      client: client?.clientName ?? interaction.params.client_id,
      scopes: missingOIDCScope.map((scope) => describeScope(scope, say)),
      name: mishap?.name || String(interaction.params.login_hint ?? ''),
      onlyPasskey: !checksPasswords || acceptsOnlyPasskey(interaction.params.acr_values),
      problem: mishap?.text,
    })
    if (mishap?.retryAfter !== undefined) reply.header('retry-after', String(mishap.retryAfter))
    return reply
      .code(mishap?.status ?? 200)
      .headers(headers)
      .send(page)
  }
}

/**
 * Returns the language in which a page is shown.
 *
 * @param locale the locale of the user, if the user is already known
 */
export function languageOf(request: FastifyRequest, interaction?: Interaction, locale?: string): Language {
  const { ui_locales: asked } = interaction?.params ?? {}
  return chooseLanguage(locale, typeof asked === 'string' ? asked : undefined, request.headers['accept-language'])
}

/** Returns the text of a scope. A scope that the operator has added has no text, so its name is shown. */
function describeScope(scope: string, say: Say): string {
  const key = `scope.${scope}`
  const text = say(key)
  return text === key ? say('scope.other', { scope }) : text
}
