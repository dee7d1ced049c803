/** Sign-in with a password or a passkey, and consent: the interactions of oidc-provider. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { InteractionResults } from 'oidc-provider'
import { rawBody } from '../../platform/http/answer.ts'
import { readForm, readJsonFields } from '../../platform/http/form.ts'
import { type LoadShedding, slotOf } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { passkeyScript, styleSheet } from '../../platform/pages/pages.ts'
import type { Passkeys } from '../../user/passkey/passkey.ts'
import { PASSKEY_ACR, PASSKEY_AMR } from '../../user/passkey/passkey-strength.ts'
import type { Consent } from '../consent.ts'
import { type BeginFor, holdingGenerations } from '../generations-of-call.ts'
import type { ReturningUsers } from '../oidc-call-limits.ts'
import { createChallengeLimit } from './challenge-limit.ts'
import { type ByPasswordNeeds, signingInByPassword } from './sign-in-by-password-endpoint.ts'
import { createSignInPages, type Interaction, type SignInPageNeeds, type SignInPages } from './sign-in-pages.ts'

export interface SignInNeeds extends SignInPageNeeds, ByPasswordNeeds {
  passkeys: Passkeys
  /** Remembers the user's generation. Resolves to whether the user may sign in. */
  beginFor: BeginFor
  whileUnproven: LoadShedding['whileUnproven']
  returningUsers: ReturningUsers
}

export function signInEndpoint(app: FastifyInstance, needs: SignInNeeds): void {
  const { passkeys } = needs
  const pages = createSignInPages(needs)
  const { find, show, over, finish } = pages
  const challengeLimit = createChallengeLimit(needs.clock)
  const signInByPassword = signingInByPassword(pages, needs)
  const signInByPasskey = signingInByPasskey(pages, needs)

  asset('doorbell.css', 'text/css', styleSheet)
  asset('passkey.js', 'text/javascript', passkeyScript)

  app.get('/sign-in/:uid', (request, reply) =>
    unproven(request, async () => {
      const interaction = await find(request, reply)
      return interaction ? show(request, reply, interaction) : over(request, reply)
    }),
  )

  post('/sign-in/:uid', async (request, reply) => {
    const form = readForm(request.headers['content-type'], rawBody(request))
    // Attempts with a password have a queue of their own, which is fair between networks.
    if (form.has('name') || form.has('password')) return signInByPassword(request, reply, form)
    return unproven(request, () => goOn(request, reply, form))
  })

  async function goOn(request: FastifyRequest, reply: FastifyReply, form: ReadonlyMap<string, string>) {
    const interaction = await find(request, reply)
    if (interaction === undefined) return over(request, reply)
    // If the form was submitted before and the browser has not followed the redirect yet, the same answer is not stored
    // again.
    if (isAnswered(interaction, form)) return reply.redirect(interaction.returnTo, 303)
    if (form.has('cancel'))
      return finish(request, reply, { error: 'access_denied', error_description: 'the user cancelled' })
    if (interaction.prompt.name === 'consent') return finish(request, reply, consentTo(interaction))
    return show(request, reply, interaction)
  }

  app.post('/sign-in/:uid/passkey/options', (request, reply) =>
    unproven(request, async () => {
      const interaction = await find(request, reply)
      if (interaction === undefined) return over(request, reply)
      // `find` has checked that the browser has the cookie of a stored sign-in. So challenges are counted only for ids
      // of stored sign-ins.
      if (!challengeLimit.mayIssue(interaction.uid)) throw tooManyChallenges()
      return reply.header('cache-control', 'no-store').send(await passkeys.signInOptions(interaction.uid))
    }),
  )

  post('/sign-in/:uid/passkey', (request, reply) =>
    unproven(request, async () => {
      const interaction = await find(request, reply)
      if (interaction === undefined) return over(request, reply)
      // At the consent page the user has signed in already.
      if (interaction.prompt.name !== 'login') return show(request, reply, interaction)
      const form = readJsonFields(request.headers['content-type'], rawBody(request))
      return signInByPasskey(request, reply, interaction, form.get('passkey') ?? '')
    }),
  )

  /**
   * Counts a call as that of an unproven caller, because every caller can begin a sign-in and then make any number of
   * calls with its cookie.
   */
  function unproven<Result>(request: FastifyRequest, work: () => Promise<Result>): Promise<Result> {
    const returning = needs.returningUsers.byCookies(request.headers.cookie)
    return needs.whileUnproven('', slotOf(request.raw), work, returning)
  }

  function post(path: string, answer: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>): void {
    app.post(path, (request, reply) => holdingGenerations(() => answer(request, reply)))
  }

  function asset(name: string, type: string, text: string): void {
    app.get(`/assets/${name}`, (_request, reply) =>
      reply.header('content-type', `${type}; charset=utf-8`).header('cache-control', 'public, max-age=300').send(text),
    )
  }
}

/**
 * Value of the `Retry-After` header, in seconds, if a sign-in has reached the limit of challenges. It is the lifetime
 * of a sign-in in which no user has signed in.
 */
const retryAfterSeconds = 600

function tooManyChallenges(): OAuthError {
  return new OAuthError('access_denied', 'too many passkey challenges for this sign-in; begin again', {
    status: 429,
    headers: { 'Retry-After': String(retryAfterSeconds) },
  })
}

/** Returns whether the result of the interaction already contains the answer in this form. */
function isAnswered({ result, prompt }: Interaction, form: ReadonlyMap<string, string>): boolean {
  return form.has('cancel') ? result?.error !== undefined : prompt.name === 'consent' && result?.consent !== undefined
}

function signingInByPasskey({ show, sayTo, welcome }: SignInPages, needs: SignInNeeds) {
  const { passkeys, users, beginFor, audit } = needs

  async function signInByPasskey(
    request: FastifyRequest,
    reply: FastifyReply,
    interaction: Interaction,
    response: string,
  ) {
    const about = { client: String(interaction.params.client_id), address: request.ip, by: 'passkey' }
    const userId = await passkeys.signIn(interaction.uid, response)
    // The generation must be remembered before the user is read. If the user is signed out, locked or removed between
    // these two reads, the new session is not valid.
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

  return signInByPasskey
}

/**
 * Returns the result of a consent: the scopes and claims of this page and of earlier pages of the same sign-in. The
 * grant is not changed yet, because the user can cancel until the browser follows the redirect. When it follows the
 * redirect, `consent.ts` changes the grant.
 */
function consentTo({ prompt, session, lastSubmission }: Interaction): InteractionResults {
  const { missingOIDCScope = [], missingOIDCClaims = [] } = prompt.details as Record<string, string[]>
  const { scopes = [], claims = [] } = (lastSubmission?.consent ?? {}) as Partial<Consent>
  const consent: Consent = {
    accountId: session!.accountId,
    scopes: [...scopes, ...missingOIDCScope],
    claims: [...claims, ...missingOIDCClaims],
  }
  return { consent: { ...consent } }
}
