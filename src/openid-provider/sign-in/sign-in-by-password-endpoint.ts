/** A try to sign in with a password, and what is answered to it. */
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

export function signingInByPassword({ show, busy, sayTo, welcome }: SignInPages, needs: ByPasswordNeeds) {
  const { passwordSignIn, clock, audit } = needs

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
        return busy(request, reply)
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

  return signInByPassword
}

/** A user sits before a page, and is told on a page. */
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

/** "in 30 seconds", "in 4 minutes", in the reader's language. */
function inHowLong(seconds: number, language: Language): string {
  const format = new Intl.RelativeTimeFormat(language)
  return seconds < 120 ? format.format(seconds, 'second') : format.format(Math.ceil(seconds / 60), 'minute')
}
