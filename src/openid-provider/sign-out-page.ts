/**
 * The pages of RP-initiated logout. They replace oidc-provider's own pages, which load styles and fonts from other
 * hosts.
 */
import { type Configuration, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import { basePathOf } from '../platform/http/base-path.ts'
import { chooseLanguage, type Texts } from '../platform/i18n/texts.ts'
import { pageHeaders, pagesIn, renderError } from '../platform/pages/pages.ts'
import type { UserHooks } from '../user/user.ts'

export interface SignOutNeeds {
  texts: Texts
  findUser: UserHooks['find']
}

type RpInitiatedLogout = NonNullable<NonNullable<Configuration['features']>['rpInitiatedLogout']>

const renderPage = pagesIn<'sign-out'>(new URL('./views/', import.meta.url))

/** Returns the pages that are shown before and after a user signs out. */
export function signOutPages({ texts, findUser }: SignOutNeeds): RpInitiatedLogout {
  const languageOf = (ctx: KoaContextWithOIDC, locale?: string) => {
    const asked = ctx.oidc.params?.ui_locales
    return chooseLanguage(locale, typeof asked === 'string' ? asked : undefined, ctx.get('accept-language'))
  }

  return {
    enabled: true,
    async logoutSource(ctx, form) {
      const user = await findUser(String(ctx.oidc.session?.accountId))
      const lang = languageOf(ctx, user?.locale)
      const name = user?.name ?? user?.username ?? user?.email ?? ''
      ctx.set(pageHeaders)
      ctx.body = renderPage('sign-out', { base: basePathOf(ctx.oidc.issuer), lang, say: texts.in(lang), form, name })
    },
    async postLogoutSuccessSource(ctx) {
      const { client, provider } = ctx.oidc
      const session = await (provider.Session as Sessions).get(ctx)
      const lang = languageOf(ctx)
      const say = texts.in(lang)
      const isOut = session.accountId === undefined
      const left = client && say('sign_out.left', { client: client.clientName ?? client.clientId })
      ctx.set(pageHeaders)
      ctx.body = renderError({
        base: basePathOf(provider.issuer),
        lang,
        say,
        title: say(isOut ? 'sign_out.done_title' : 'sign_out.still_title'),
        description: isOut ? say('sign_out.done') : (left ?? say('sign_out.still')),
      })
    },
  }
}

/**
 * If no user is signed in, redirects the browser to the final address at once, because there is no session to end.
 * Without this, oidc-provider would store a new session for every such caller.
 */
export function endWithoutSession(provider: Provider): void {
  provider.use(async (ctx, next) => {
    await next()
    const { route, session } = (ctx as KoaContextWithOIDC).oidc ?? {}
    if (route !== 'end_session' || ctx.status !== 200 || session?.accountId !== undefined) return
    const { postLogoutRedirectUri, state } = (session?.state ?? {}) as {
      postLogoutRedirectUri?: string
      state?: string
    }
    const target = new URL(postLogoutRedirectUri ?? provider.urlFor('end_session_success'))
    if (postLogoutRedirectUri !== undefined && state !== undefined) target.searchParams.set('state', state)
    // oidc-provider has set the cookie of a new session. This session was not stored, so the cookie is removed.
    ctx.remove('Set-Cookie')
    ctx.status = 303
    ctx.redirect(target.href)
  })
}

/**
 * Records the end of a session when a user signs out at oidc-provider. oidc-provider calls `Session.destroy`, which
 * only deletes the row of the session. A call that began before the sign-out could then write the row again, and the
 * session would be valid again. So this function replaces `destroy`: the new `destroy` first calls `endSession`, which
 * records that the session has ended, and then deletes the row.
 */
export function endWholeSession(
  provider: Provider,
  endSession: (id: string, cookies: string | undefined) => Promise<void>,
): void {
  const prototype = provider.Session.prototype as unknown as { id: string; destroy(): Promise<void> }
  const { destroy } = prototype
  prototype.destroy = async function destroyAll(this: typeof prototype) {
    await endSession(this.id, Provider.ctx?.get('cookie'))
    await destroy.call(this)
  }
}

type Sessions = Provider['Session'] & { get(ctx: KoaContextWithOIDC): Promise<{ accountId?: string }> }
