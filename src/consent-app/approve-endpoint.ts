/** The page of one request, and the form for the decision. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '../platform/clock.ts'
import type { Form } from '../platform/http/form.ts'
import { saySelfRegistered } from '../platform/i18n/self-registered.ts'
import { type DeviceApi, Refused, type ShownRequest, succeeded } from './device-api.ts'
import { approvedIn, checkboxesOf } from './partial-approval.ts'
import { type Session, safeReturn } from './session.ts'
import { formOf, nameOf, type Reader, type Shell, staleForm } from './shell.ts'

type RequestParams = { Params: { id: string } }

export interface ApproveNeeds {
  api: DeviceApi
  clock: Clock
}

export function approveEndpoint(app: FastifyInstance, shell: Shell, { api, clock }: ApproveNeeds): void {
  const { readerOf, page, isTrustworthy, toSignIn, notTheirs, sessionOver, formExpired } = shell
  const decide = deciding(shell, api)

  app.get<RequestParams>('/approve/:id', async (request, reply) => {
    const reader = readerOf(request)
    const to = safeReturn(`/approve/${request.params.id}`)
    if (reader.session === undefined) return toSignIn(reply, to)
    const answer = await api.show(reader.session.accessToken, request.params.id, reader.language)
    if (answer.status === 401) return toSignIn(reply, to)
    const [shown] = succeeded(answer).requests
    if (shown === undefined) return notTheirs(reply, reader, to)
    if (shown.status !== 'pending') return settled(request, reply, reader, shown)
    const hasPasskey =
      shown.passkey_required && succeeded(await api.passkeys(reader.session.accessToken)).passkeys.length > 0
    return ask(request, reply, reader, shown, hasPasskey)
  })

  app.post<RequestParams>('/approve/:id', async (request, reply) => {
    const reader = readerOf(request)
    const to = safeReturn(`/approve/${request.params.id}`)
    const form = formOf(request)
    if (reader.session === undefined) return sessionOver(reply, reader, to)
    if (!isTrustworthy(request, form, reader.session)) return formExpired(reply, reader, to)
    return decide(request, reply, { reader, session: reader.session, form })
  })

  app.post<RequestParams>('/approve/:id/passkey', async (request, reply) => {
    const { session } = readerOf(request)
    if (session === undefined || !isTrustworthy(request, formOf(request), session)) throw staleForm()
    const answer = await api.confirmOptions(session.accessToken, request.params.id)
    return reply.code(answer.status).send(answer.body)
  })

  function ask(request: FastifyRequest, reply: FastifyReply, reader: Reader, shown: ShownRequest, hasPasskey: boolean) {
    const { passkey, left } = request.query as { passkey?: string; left?: string }
    const problem =
      passkey === 'refused'
        ? reader.say('approve.passkey_refused')
        : left === 'nothing'
          ? reader.say('approve.leave_some')
          : undefined
    const view = viewOf(shown, reader, clock.now())
    return page(reply, 'approve', reader, { request: shown, hasPasskey, problem, ...view })
  }

  function settled(request: FastifyRequest, reply: FastifyReply, reader: Reader, shown: ShownRequest) {
    const { just } = request.query as { just?: string }
    return page(reply, 'outcome', reader, { key: outcomeKey(shown, just), client: nameOf(shown) })
  }
}

/** Sends a decision to the device API, and redirects to the next page. */
function deciding({ notTheirs, sessionOver, formExpired }: Shell, api: DeviceApi) {
  interface Decided {
    reader: Reader
    session: Session
    form: Form
  }

  return async function decide(
    request: FastifyRequest<RequestParams>,
    reply: FastifyReply,
    { reader, session, form }: Decided,
  ) {
    const { id } = request.params
    const choice = form.get('decision')
    if (choice !== 'approve' && choice !== 'deny' && choice !== 'report') {
      return formExpired(reply, reader, `/approve/${id}`)
    }
    const less = choice === 'approve' ? await approvedOn(form, session, id, api) : undefined
    const fields = {
      request_id: id,
      status: choice === 'approve' ? 'approved' : 'denied',
      ...(choice === 'report' && { report: true }),
      ...(less !== undefined && { authorization_details: less }),
      ...(form.has('number') && { number: form.get('number') }),
      ...(form.has('passkey') && { passkey: form.get('passkey') }),
    }
    const answer = await api.decide(session.accessToken, fields, request.ip)
    const to = safeReturn(`/approve/${id}`)
    switch (answer.status) {
      case 200: {
        const how = answer.body.reason === 'wrong_number' ? 'wrong_number' : choice
        return reply.redirect(`${to}?just=${how}`, 303)
      }
      case 401:
        // The page of the request says which sign-in is needed.
        if (answer.body.error === 'insufficient_user_authentication') return reply.redirect(to, 303)
        return sessionOver(reply, reader, to)
      case 404:
        return notTheirs(reply, reader, to)
      case 409:
      case 410:
        // The request has expired or was already decided, perhaps in another window. The page of the request shows the
        // status.
        return reply.redirect(to, 303)
      case 403:
        if (answer.body.error === 'insufficient_scope') throw new Refused(answer)
        return reply.redirect(`${to}?passkey=${answer.body.passkey_required ? 'needed' : 'refused'}`, 303)
      default:
        if (answer.status >= 500) throw new Refused(answer)
        if (answer.body.error === 'invalid_authorization_details') return reply.redirect(`${to}?left=nothing`, 303)
        return formExpired(reply, reader, to)
    }
  }
}

/** Resolves to the approved authorization details, or to undefined if the page had no checkboxes for details. */
async function approvedOn(form: Form, session: Session, id: string, api: DeviceApi) {
  const shown = (await api.show(session.accessToken, id)).body.requests?.[0]
  return shown && approvedIn(form, shown)
}

/** Returns the values for the page of a pending request, in the user's language. */
function viewOf(shown: ShownRequest, { say }: Reader, now: number) {
  const until = new Date(now + shown.expires_in * 1000)
  const wants = wantsOf(shown, say)
  const boxes = checkboxesOf(shown)
  const details = (shown.authorization_details_text ?? []).map(({ lines }, index) => ({
    lines,
    boxes: boxes[index] ?? [],
  }))
  const { self_registered, hosts = [] } = shown.client
  const selfRegistered = self_registered && saySelfRegistered(say, nameOf(shown), hosts)
  const again = `/session/start?to=${encodeURIComponent(`/approve/${shown.request_id}`)}&again=yes`
  return {
    client: nameOf(shown),
    signInAgain: shown.sign_in_needed && again,
    selfRegistered,
    wants,
    details,
    secondsLeft: shown.expires_in,
    until: until.toISOString(),
  }
}

/**
 * The scope of each claim. If a client requests a claim by its name, the page shows the text of the scope that contains
 * the claim.
 */
const scopeOfClaim = new Map(
  Object.entries({
    openid: ['sub', 'acr', 'amr', 'auth_time'],
    profile: ['name', 'preferred_username', 'locale'],
    email: ['email', 'email_verified'],
    phone: ['phone_number', 'phone_number_verified'],
  }).flatMap(([scope, claims]) => claims.map((claim) => [claim, scope] as const)),
)

/** Returns texts that describe what the client requests: the scopes, and the claims that it requests by their names. */
function wantsOf({ scope, claims }: ShownRequest, say: Reader['say']): string[] {
  const named = [...Object.keys(claims?.id_token ?? {}), ...Object.keys(claims?.userinfo ?? {})]
  const ofScope = (name: string) => {
    const text = say(`scope.${name}`)
    return text === `scope.${name}` ? say('scope.other', { scope: name }) : text
  }
  const ofClaim = (claim: string) => {
    const like = scopeOfClaim.get(claim)
    return like === undefined ? say('scope.claim', { claim }) : ofScope(like)
  }
  return [...new Set([...scope.split(' ').map(ofScope), ...named.map(ofClaim)])]
}

/**
 * Returns the key of the text that tells the outcome of a request that is not pending.
 * @param just the decision that was just made on this page, if any
 */
function outcomeKey(shown: ShownRequest, just: string | undefined): string {
  if (shown.status === 'denied' && (just === 'deny' || just === 'report' || just === 'wrong_number')) {
    return { deny: 'denied', report: 'reported', wrong_number: 'wrong_number' }[just]
  }
  const approved = shown.status === 'approved' || shown.status === 'redeemed'
  if (approved) return just === 'approve' ? 'approved' : 'already_approved'
  return shown.status === 'denied' ? 'already_denied' : 'expired'
}
