/** A try to sign in with a password, and what is answered to it. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { callerOf } from '../../platform/http/connection.ts'
import { Overloaded } from '../../platform/http/unavailable.ts'
import type { Language } from '../../platform/i18n/texts.ts'
import { acceptsOnlyPasskey } from '../../user/passkey/passkey-strength.ts'
import type { AttemptPassword, PasswordSignIn } from './password-sign-in.ts'
import { type Interaction, languageOf, retryAfterSeconds, type SignInPages } from './sign-in-pages.ts'

export interface ByPasswordNeeds {
  passwordSignIn: PasswordSignIn
  clock: Clock
  audit: Audit
}

type SentForm = ReadonlyMap<string, string>

export function signingInByPassword(pages: SignInPages, needs: ByPasswordNeeds) {
  const { find, over, busy, show, sayTo, welcome } = pages
  const { passwordSignIn, clock, audit } = needs

  async function signInByPassword(request: FastifyRequest, reply: FastifyReply, form: SentForm) {
    const from = { address: request.ip, cookies: request.headers.cookie, connection: callerOf(reply) }
    const inPlace = await unlessOverloaded(() =>
      passwordSignIn.withPlace(from, async (attempt) => {
        const interaction = await find(request, reply)
        if (interaction === undefined) return over(request, reply)
        if (interaction.prompt.name !== 'login') return show(request, reply, interaction)
        return tryPassword(request, reply, interaction, { form, attempt })
      }),
    )
    return inPlace === 'overloaded' ? busy(request, reply) : inPlace
  }

  async function tryPassword(
    request: FastifyRequest,
    reply: FastifyReply,
    interaction: Interaction,
    { form, attempt }: { form: SentForm; attempt: AttemptPassword },
  ) {
    const say = sayTo(request, interaction)
    if (acceptsOnlyPasskey(interaction.params.acr_values)) {
      return show(request, reply, interaction, { status: 403, text: say('approve.need_passkey') })
    }
    const about = { client: String(interaction.params.client_id), address: request.ip, by: 'password' }
    const name = form.get('name') ?? ''
    const password = form.get('password') ?? ''
    const outcome = await unlessOverloaded(() => attempt({ name, password, clientId: about.client }))
    if (outcome === 'overloaded') {
      const text = say('sign_in.busy')
      return show(request, reply, interaction, { status: 503, text, name, retryAfter: retryAfterSeconds })
    }
    switch (outcome.kind) {
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

  /** None is as good as a wrong one, and nothing has to be looked at for it. */
  function withoutPassword(request: FastifyRequest, reply: FastifyReply, interaction: Interaction) {
    return show(request, reply, interaction, { status: 401, text: sayTo(request, interaction)('sign_in.wrong') })
  }

  return { signInByPassword, withoutPassword }
}

/** A user sits before a page, and is told on a page. */
async function unlessOverloaded<Result>(work: () => Promise<Result>): Promise<Result | 'overloaded'> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof Overloaded) return 'overloaded'
    throw error
  }
}

/** "in 30 seconds", "in 4 minutes", in the reader's language. */
function inHowLong(seconds: number, language: Language): string {
  const format = new Intl.RelativeTimeFormat(language)
  return seconds < 120 ? format.format(seconds, 'second') : format.format(Math.ceil(seconds / 60), 'minute')
}
