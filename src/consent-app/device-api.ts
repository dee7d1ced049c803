/**
 * The consent app's client of the device API. It sends HTTP requests with the user's own access token, and uses no
 * other part of the server.
 */
import { Unavailable } from '../platform/http/unavailable.ts'

/** Sends one HTTP request to the server of the device API. */
export type SendToServer = (request: {
  method: 'GET' | 'POST'
  path: string
  headers: Record<string, string>
  body?: string
  /** The IP address of the user's browser, for limits and audit. */
  from?: string
}) => Promise<{ status: number; headers: Record<string, string>; text: string }>

export interface ShownClient {
  client_id: string
  client_name?: string
  logo_uri?: string
  policy_uri?: string
  tos_uri?: string
  /** Set only if the client registered itself. If so, `hosts` contains the hosts of the client's addresses. */
  self_registered?: true
  hosts?: string[]
}

/** Claims that the client requests one by one, by name. */
export interface ShownClaims {
  id_token?: Record<string, unknown>
  userinfo?: Record<string, unknown>
}

/**
 * The text that describes one of the authorization details, and the lists in it from which the user may remove members.
 */
export interface ShownDetail {
  lines: string[]
  choices?: { field: string; members: string[] }[]
}

export interface ShownRequest {
  request_id: string
  status: 'pending' | 'approved' | 'denied' | 'expired' | 'redeemed'
  binding_message?: string
  scope: string
  claims?: ShownClaims
  authorization_details?: Record<string, unknown>[]
  authorization_details_text?: ShownDetail[]
  /** The resources that the tokens are for. */
  resource?: string[]
  created_at: number
  /** Seconds until the request expires. */
  expires_in: number
  client: ShownClient
  passkey_required: boolean
  /** The sign-in that is required before the request can be approved. */
  sign_in_needed?: { max_age?: number; acr_values?: string }
  /** For number matching: the user picks the number that the client shows. */
  number_choices?: string[]
}

export interface ShownActivity {
  request_id: string
  outcome: 'approved' | 'denied' | 'expired'
  reported: boolean
  /** Seconds since 1970. */
  decided_at: number
  scope: string
  claims?: ShownClaims
  binding_message?: string
  authorization_details_text?: ShownDetail[]
  resource?: string[]
  client: ShownClient
  in_use: boolean
  client_blocked: boolean
}

export interface ShownPasskey {
  id: string
  name?: string
  created_at: number
  used_at?: number
}

/** The sign-in that is required before a change. If `acr_values` is set, the user must sign in with a passkey. */
export interface SignInNeeded {
  max_age: number
  acr_values?: string
}

/** A browser in which the user is signed in. */
export interface ShownSession {
  id: string
  browser: string
  /** Seconds since 1970. */
  signed_in_at: number
  seen_at: number
  current: boolean
}

export interface ShownUserCode {
  set: boolean
  /** Seconds since 1970; undefined if the user did not set the code. */
  set_at?: number
  /** Whether the user must enter the current code to change it, because the sign-in is not recent. */
  present_code_needed: boolean
}

/** A response of the device API: status and JSON body. */
export interface Answered<Body> {
  status: number
  body: Body & {
    error?: string
    status?: string
    reason?: string
    passkey_required?: boolean
    proof_needed?: boolean
    locked?: boolean
    too_often?: boolean
    is_password?: boolean
    bad_name?: boolean
  }
}

/** Thrown if the device API refuses a call, and the page that made the call has no text for the reason. */
export class Refused extends Error {
  readonly status: number
  readonly code: string | undefined

  constructor({ status, body }: Answered<unknown>) {
    super(`the device API answered ${status} ${body.error ?? ''}`)
    this.name = 'Refused'
    this.status = status
    this.code = body.error
  }

  /** Whether the user has to sign in again, because the access token is not valid or lacks the scope `ciba:decide`. */
  get needsSignIn(): boolean {
    return this.status === 401 || this.code === 'insufficient_scope'
  }
}

/**
 * Returns the body of a response.
 * @throws {Refused} if the call did not succeed
 */
export function succeeded<Body>(answer: Answered<Body>): Answered<Body>['body'] {
  if (answer.status < 200 || answer.status > 299) throw new Refused(answer)
  return answer.body
}

export type DeviceApi = ReturnType<typeof createDeviceApiClient>

/**
 * Creates the client of the device API. Its functions resolve to the response, even if it is an error. But if the
 * status is 503, they reject with `Unavailable`.
 */
export function createDeviceApiClient(send: SendToServer) {
  async function get<Body>(accessToken: string, path: string): Promise<Answered<Body>> {
    return read(await send({ method: 'GET', path, headers: headersFor(accessToken) }))
  }

  async function post<Body>(
    accessToken: string,
    path: string,
    fields: Record<string, unknown>,
    from?: string,
    userAgent?: string,
  ): Promise<Answered<Body>> {
    const headers = {
      ...headersFor(accessToken),
      'content-type': 'application/json',
      ...(userAgent !== undefined && { 'user-agent': userAgent }),
    }
    return read(await send({ method: 'POST', path, headers, body: JSON.stringify(fields), ...(from && { from }) }))
  }

  return {
    waiting: (token: string, language = 'en') =>
      get<{ requests: ShownRequest[] }>(token, `/backchannel/authinfo?status=pending&ui_locales=${language}`),
    show: (token: string, requestId: string, language = 'en') =>
      get<{ requests: ShownRequest[] }>(
        token,
        `/backchannel/authinfo?request_id=${encodeURIComponent(requestId)}&ui_locales=${language}`,
      ),
    decide: (token: string, fields: Record<string, unknown>, from: string) =>
      post<object>(token, '/backchannel/complete', fields, from),
    activity: (token: string, language: string) =>
      get<{ activity: ShownActivity[] }>(token, `/backchannel/activity?ui_locales=${language}`),
    revoke: (token: string, requestId: string, from: string) =>
      post<object>(token, '/backchannel/revoke', { request_id: requestId }, from),
    block: (token: string, clientId: string, blocked: boolean, from: string) =>
      post<object>(token, '/backchannel/block', { client_id: clientId, blocked }, from),
    passkeys: (token: string) =>
      get<{ passkeys: ShownPasskey[]; sign_in_needed?: SignInNeeded }>(token, '/backchannel/passkeys'),
    /** @param name the name that the user wants to give to the passkey */
    passkeyOptions: (token: string, name: string) => post<object>(token, '/backchannel/passkeys/options', { name }),
    /**
     * @param userAgent the `User-Agent` of the browser. The message that notifies the user contains the name of this
     *   browser
     */
    addPasskey: (token: string, fields: { passkey: string; name: string }, from: string, userAgent?: string) =>
      post<object>(token, '/backchannel/passkeys', fields, from, userAgent),
    renamePasskey: (token: string, fields: { id: string; name: string }, from: string) =>
      post<object>(token, '/backchannel/passkeys/rename', fields, from),
    removePasskey: (token: string, id: string, from: string) =>
      post<object>(token, '/backchannel/passkeys/remove', { id }, from),
    confirmOptions: (token: string, requestId: string) =>
      post<object>(token, '/backchannel/passkeys/confirm-options', { request_id: requestId }),
    sessions: (token: string) => get<{ sessions: ShownSession[] }>(token, '/backchannel/sessions'),
    endSession: (token: string, which: { id: string } | { everywhere: 'true' }, from: string) =>
      post<object>(token, '/backchannel/sessions/end', which, from),
    userCode: (token: string) => get<ShownUserCode>(token, '/backchannel/user-code'),
    setUserCode: (token: string, fields: Record<string, unknown>, from: string, userAgent?: string) =>
      post<object>(token, '/backchannel/user-code', fields, from, userAgent),
    removeUserCode: (token: string, fields: Record<string, unknown>, from: string) =>
      post<object>(token, '/backchannel/user-code/remove', fields, from),
    subscribe: (token: string, subscription: string) =>
      post<object>(token, '/backchannel/push-subscriptions', { subscription }),
    /**
     * Subscribes, and removes the subscription that the browser had before, in one step.
     * @param replaces_hash the SHA-256 of the endpoint that the browser had before
     */
    replaceSubscription: (token: string, fields: { subscription: string; replaces_hash: string }) =>
      post<object>(token, '/backchannel/push-subscriptions', fields),
    unsubscribe: (token: string, endpoint: string) =>
      post<object>(token, '/backchannel/push-subscriptions/remove', { endpoint }),
    /**
     * If the push subscription of this browser belongs to another user, removes it. Resolves to whether the signed-in
     * user gets notifications in this browser.
     */
    claimSubscription: (token: string, browser: { endpoint: string } | { endpoint_hash: string }) =>
      post<{ subscribed: boolean; ended_another: boolean }>(token, '/backchannel/push-subscriptions/claim', browser),
  }
}

function headersFor(accessToken: string): Record<string, string> {
  return { authorization: `Bearer ${accessToken}`, accept: 'application/json' }
}

/** @throws {Unavailable} if the API returned 503 */
function read<Body>({ status, text }: { status: number; text: string }): Answered<Body> {
  if (status === 503) throw new Unavailable('the device API cannot answer now')
  return { status, body: (text === '' ? {} : JSON.parse(text)) as Answered<Body>['body'] }
}
