/** The device API: a user's requests, and the user's decision. */
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { DetailTypes } from '../../authorization-details/detail-types.ts'
import { parseDetails } from '../../authorization-details/read-details.ts'
import {
  type AuthenticationRequest,
  isNumberToMatch,
  statusAt,
} from '../../ciba/authentication-request/authentication-request.ts'
import type { RequestStore } from '../../ciba/authentication-request/authentication-request-store.ts'
import type { Decide, DecisionResult } from '../../ciba/decision/decide.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { Clock } from '../../platform/clock.ts'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { type Form, readJsonFields, readQuery } from '../../platform/http/form.ts'
import { chooseLanguage, type Language } from '../../platform/i18n/texts.ts'
import type { Log } from '../../platform/log.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { NumberMatching } from '../number-matching.ts'
import { type ClientsById, findClients, showClient } from '../shown-client.ts'
import { type AuthenticateApproval, passkeyRequired } from './approval-strength.ts'
import { narrowed } from './approved-details.ts'
import { describeEach, detailsAsJson } from './described-rows.ts'
import { type DeviceCall, type DeviceCaller, type IdentifyCaller, requireAccessToken } from './device-caller.ts'
import { authenticationNeeded } from './required-authentication.ts'

export interface DeviceNeeds {
  identifyCaller: IdentifyCaller
  requests: RequestStore
  clients: ClientStore
  decide: Decide
  /** The numbers that users pick from before they approve. */
  numbers: NumberMatching
  authenticateApproval: AuthenticateApproval
  /**
   * The declared types of authorization details. They describe details to users, and determine which parts users may
   * leave out.
   */
  details: DetailTypes
  clock: Clock
  log: Log
}

/** Adds the routes for reading and deciding requests. */
export function deviceEndpoint(
  app: FastifyInstance,
  paths: { authinfo: string; complete: string },
  needs: DeviceNeeds,
): void {
  const { identifyCaller } = needs
  const show = (call: DeviceCall, form: Form) =>
    identifyCaller(call, form, (caller) => authinfo(call, form, caller, needs))

  onlyMethods(app, paths.authinfo, ['GET', 'POST'])
  app.get(paths.authinfo, async (request, reply) => {
    requireAccessToken(request.headers.authorization)
    // An `auth_req_id` in the query is accepted, as in earlier versions. Callers should send it in the body of a POST,
    // or send `request_id`.
    const form = readQuery(request.url)
    return answer(reply, await show(request.raw, form))
  })
  app.post(paths.authinfo, async (request, reply) => {
    const form = readJsonFields(request.headers['content-type'], rawBody(request))
    return answer(reply, await show(request.raw, form))
  })

  onlyMethods(app, paths.complete, ['POST'])
  app.post(paths.complete, async (request, reply) => {
    const form = readJsonFields(request.headers['content-type'], rawBody(request), ['authorization_details'])
    const work = (caller: DeviceCaller) => complete(form, request.ip, caller, needs)
    return answer(reply, await identifyCaller(request.raw, form, work, request.ip))
  })
}

async function authinfo(call: DeviceCall, form: Form, caller: DeviceCaller, needs: DeviceNeeds) {
  const now = needs.clock.now()
  const requests = await asked(form, caller, now, needs)
  const language = chooseLanguage(form.get('ui_locales'), String(call.headers['accept-language'] ?? ''))
  const clients = await findClients(requests, needs.clients)
  const describing = { caller, language, now, clients, needs }
  const shown = describeEach(requests, {
    describe: (request) => describe(request, describing),
    describeLess: (request) => describeLess(request, describing),
    idOf: ({ id }) => id,
    log: needs.log,
  })
  return { requests: shown }
}

/**
 * Resolves to a list of the request that the form identifies, or of all requests of the user if the form identifies
 * none. If the form asks for pending requests only, the other requests are left out.
 */
async function asked(form: Form, caller: DeviceCaller, now: number, { requests }: DeviceNeeds) {
  const openOnly = form.get('status') === 'pending' || form.get('poolingMode') === 'true'
  if (!form.has('request_id') && !form.has('auth_req_id')) {
    return requests.listForUser(caller.userId, openOnly ? 'open' : 'all', now)
  }
  const one = await named(form, caller, requests)
  return one !== undefined && (!openOnly || statusAt(one, now) === 'pending') ? [one] : []
}

/** Resolves to the request that the form identifies, or to undefined if this user has no such request. */
async function named(
  form: Form,
  { userId }: DeviceCaller,
  requests: RequestStore,
): Promise<AuthenticationRequest | undefined> {
  const id = form.get('request_id')
  const authReqId = form.get('auth_req_id')
  if (id !== undefined && authReqId !== undefined) {
    throw new OAuthError('invalid_request', 'send either request_id or auth_req_id, not both')
  }
  if (id !== undefined) return requests.findForUser(userId, { id })
  return authReqId === undefined ? undefined : requests.findForUser(userId, { authReqId })
}

interface Describing {
  caller: DeviceCaller
  language: Language
  now: number
  clients: ClientsById
  needs: Pick<DeviceNeeds, 'numbers' | 'details'>
}

/**
 * Returns the members of a request that devices see. The members are listed one by one, so that a member that is added
 * to the request later is not shown unintentionally.
 */
function describe(request: AuthenticationRequest, { caller, language, now, clients, needs }: Describing) {
  const { numbers, details } = needs
  const client = clients.get(request.clientId)
  const choices = caller.kind === 'user' ? numbers.choicesFor(request) : undefined
  const passkey_required = passkeyRequired(request, client?.metadata, caller, now)
  return {
    request_id: request.id,
    status: statusAt(request, now),
    // With number matching, the binding message is the number that the user has to pick. So it must not be shown.
    binding_message: choices === undefined ? request.bindingMessage : undefined,
    scope: request.scope,
    claims: request.claims,
    authorization_details: request.authorizationDetails,
    authorization_details_text:
      request.authorizationDetails && details.describe(request.authorizationDetails, language),
    resource: request.resources,
    created_at: Math.floor(request.createdAt / 1000),
    expires_in: Math.max(0, Math.ceil((request.expiresAt - now) / 1000)),
    client: showClient(request.clientId, client),
    acr_values: request.acrValues,
    user_code_required: false,
    passkey_required,
    // If a passkey is required, no sign-in is needed, because the confirmation with the passkey is a new
    // authentication.
    sign_in_needed:
      caller.kind === 'user' && !passkey_required
        ? authenticationNeeded(request, client?.metadata, caller.authentication, now)
        : undefined,
    number_choices: choices,
  }
}

/** Describes a request for which `describe` threw. This function does not throw for any stored value. */
function describeLess(request: AuthenticationRequest, { now }: Describing) {
  return {
    request_id: request.id,
    status: statusAt(request, now),
    // A binding message that is a number is left out. With number matching, the user has to pick this number.
    binding_message: isNumberToMatch(request.bindingMessage) ? undefined : request.bindingMessage,
    scope: request.scope,
    claims: request.claims,
    authorization_details: request.authorizationDetails,
    authorization_details_text: detailsAsJson(request.authorizationDetails),
    resource: request.resources,
    created_at: Math.floor(request.createdAt / 1000),
    expires_in: Math.max(0, Math.ceil((request.expiresAt - now) / 1000)),
    client: { client_id: request.clientId },
    acr_values: request.acrValues,
    user_code_required: false,
    passkey_required: false,
  }
}

async function complete(form: Form, address: string, caller: DeviceCaller, needs: DeviceNeeds) {
  const outcome = readOutcome(form)
  const reported = readReport(form, outcome)
  const approver = { ...caller, authentication: readAuthentication(form, caller) }
  if (!form.has('request_id') && !form.has('auth_req_id'))
    throw new OAuthError('invalid_request', 'request_id is missing')
  const request = await named(form, caller, needs.requests)
  if (request === undefined) throw notFound()
  // `identifyCaller` refuses every client that may send authentication requests. This check also refuses a client that
  // sent this request, but may send no requests any more because its registration was changed.
  if (request.clientId === caller.clientId)
    throw new OAuthError('access_denied', 'a client cannot decide its own request')

  const approvedDetails = readApproved(form, outcome, request, needs)

  // An approval with a wrong number counts as a denial.
  const misread = outcome === 'approved' && (await picksWrong(request, caller, form, needs))
  // A denial needs no passkey.
  const authentication =
    outcome === 'approved' && !misread
      ? await needs.authenticateApproval(request, approver, form.get('passkey'))
      : approver.authentication
  const result = await needs.decide({
    requestId: request.id,
    request,
    userId: caller.userId,
    outcome: misread ? 'denied' : outcome,
    decidedBy: caller.kind,
    deviceClientId: caller.clientId,
    tokenHash: caller.tokenHash,
    authentication,
    approvedDetails,
    reported,
    address,
  })
  const status = settledOrRefused(request.id, result)
  return { request_id: request.id, status, ...(misread && { reason: 'wrong_number' }) }
}

/**
 * Returns the details that the user approves, or undefined if the user approves all. Called before the passkey is
 * checked, so that invalid details do not use up the challenge of the passkey.
 */
function readApproved(
  form: Form,
  outcome: 'approved' | 'denied',
  request: AuthenticationRequest,
  { details }: DeviceNeeds,
) {
  const text = form.get('authorization_details')
  if (text === undefined) return undefined
  if (outcome === 'denied')
    throw new OAuthError('invalid_request', 'authorization_details may only be sent with an approval')
  return narrowed(request, parseDetails(text), details)
}

/** Resolves to whether the user picked another number than the number that the client shows. */
async function picksWrong(request: AuthenticationRequest, caller: DeviceCaller, form: Form, needs: DeviceNeeds) {
  if (caller.kind !== 'user' || needs.numbers.choicesFor(request) === undefined) return false
  const picked = form.get('number')
  if (picked === undefined)
    throw new OAuthError('invalid_request', 'number is missing: send the number that the client shows')
  return picked !== request.bindingMessage
}

/** The accepted values of `status`. CIBA does not define this field. `A` and `D` are the values of doorkeeper-ciba. */
const outcomes = new Map([
  ['approved', 'approved'],
  ['denied', 'denied'],
  ['A', 'approved'],
  ['D', 'denied'],
] as const)

function readOutcome(form: Form): 'approved' | 'denied' {
  const outcome = outcomes.get(form.get('status') as 'A')
  if (outcome === undefined) throw new OAuthError('invalid_request', 'status must be approved or denied')
  return outcome
}

/** Only a denial can be reported as "This was not me". */
function readReport(form: Form, outcome: 'approved' | 'denied'): boolean {
  const report = form.get('report')
  if (report !== undefined && report !== 'true' && report !== 'false') {
    throw new OAuthError('invalid_request', 'report must be true or false')
  }
  if (report === 'true' && outcome === 'approved') {
    throw new OAuthError('invalid_request', 'a reported request cannot be approved')
  }
  return report === 'true'
}

/** Returns how the user was authenticated: as stated by the device service, or as stated in the user's own token. */
function readAuthentication(form: Form, caller: DeviceCaller): Authentication {
  if (caller.kind === 'user') return caller.authentication
  const authTime = form.get('auth_time')
  if (authTime !== undefined && !/^[1-9]\d{0,11}$/.test(authTime)) {
    throw new OAuthError('invalid_request', 'auth_time must be seconds since 1970')
  }
  return {
    acr: form.get('acr'),
    amr: form.get('amr')?.split(' '),
    authTime: authTime === undefined ? undefined : Number(authTime),
  }
}

function settledOrRefused(requestId: string, result: DecisionResult): string {
  switch (result.kind) {
    case 'settled':
      return result.status
    case 'unknown':
      throw notFound()
    case 'user unavailable':
      throw new OAuthError('access_denied', 'the user cannot decide now')
    case 'expired':
      throw new OAuthError('expired', 'the request has expired', {
        members: { request_id: requestId, status: 'expired' },
      })
    case 'already decided':
      throw new OAuthError('already_decided', 'the request has been decided already', {
        members: { request_id: requestId, status: result.status },
      })
  }
}

/** Returns the same error for an unknown request and for a request of another user. */
function notFound(): OAuthError {
  return new OAuthError('not_found', 'no such request is waiting for this user')
}

function answer(reply: FastifyReply, body: unknown): FastifyReply {
  return reply.header('cache-control', 'no-store').send(body)
}
