/** An attempt to sign in with a password, and the response. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { callerOf } from '../../platform/http/connection.ts'
import { Overloaded } from '../../platform/http/unavailable.ts'
import type { Language } from '../../platform/i18n/texts.ts'
import { acceptsOnlyPasskey } from '../../user/passkey/passkey-strength.ts'
import type { PasswordSignIn, PasswordTryOutcome } from './password-sign-in.ts'
import { type Interaction, languageOf, type SignInPages } from './sign-in-pages.ts'

export interface ByPasswordNeeds {
  passwordSignIn: PasswordSignIn
  clock: Clock
  audit: Audit
}

/** Returns the function that responds to a submitted name and password. */
export function signingInByPassword({ find, show, over, busy, sayTo, welcome }: SignInPages, needs: ByPasswordNeeds) {
  const { passwordSignIn, clock, audit } = needs

  async function signInByPassword(request: FastifyRequest, reply: FastifyReply, form: ReadonlyMap<string, string>) {
    try {
      const { interaction, begun } = await lookUp(request, reply, form.get('name') ?? '')
      if (interaction === undefined) return over(request, reply)
      // The user has already signed in, for example in another tab with the same page.
      if (interaction.prompt.name !== 'login') return show(request, reply, interaction)
      if (begun === undefined) {
        return show(request, reply, interaction, {
          status: 403,
          text: sayTo(request, interaction)('approve.need_passkey'),
        })
      }
      const outcome = typeof begun === 'function' ? await begun(form.get('password') ?? '') : begun
      return answer(request, reply, interaction, form.get('name') ?? '', outcome)
    } catch (error) {
      // The caller is a browser, so the response is a page and not JSON.
      if (error instanceof Overloaded) return busy(request, reply)
      throw error
    }
  }

  /** Resolves to the interaction and the attempt. There is no attempt if the interaction does not accept a password. */
  function lookUp(request: FastifyRequest, reply: FastifyReply, name: string) {
    const from = { address: request.ip, cookies: request.headers.cookie, connection: callerOf(reply) }
    return passwordSignIn.lookUp(from, async () => {
      const interaction = await find(request, reply)
      if (interaction?.prompt.name !== 'login' || acceptsOnlyPasskey(interaction.params.acr_values)) {
        return { interaction }
      }
      const clientId = String(interaction.params.client_id)
      return { interaction, begun: await passwordSignIn.begin({ name, clientId, ...from }) }
    })
  }

  async function answer(
    request: FastifyRequest,
    reply: FastifyReply,
    interaction: Interaction,
    name: string,
    outcome: PasswordTryOutcome,
  ) {
    const about = { client: String(interaction.params.client_id), address: request.ip, by: 'password' }
    switch (outcome.kind) {
      case 'paused':
        audit({ event: 'sign_in.paused', ...about })
        return waitFirst(request, reply, interaction, outcome.until, name)
      case 'wrong': {
        audit({ event: outcome.isHeldBack ? 'sign_in.paused' : 'sign_in.failed', ...about })
        const text = sayTo(request, interaction)('sign_in.wrong')
        return show(request, reply, interaction, { status: 401, text, name })
      }
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

  return signInByPassword
}

/** Returns a text like "in 30 seconds" or "in 4 minutes", in the given language. */
function inHowLong(seconds: number, language: Language): string {
  const format = new Intl.RelativeTimeFormat(language)
  return seconds < 120 ? format.format(seconds, 'second') : format.format(Math.ceil(seconds / 60), 'minute')
}
