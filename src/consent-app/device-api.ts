/** The device API, as the consent app sees it: HTTP, with the user's own access token, and nothing else of the server. */

/** Sends one HTTP request to the server that has the device API. */
export type SendToServer = (request: {
  method: 'GET' | 'POST'
  path: string
  headers: Record<string, string>
  body?: string
}) => Promise<{ status: number; headers: Record<string, string>; text: string }>

export interface ShownClient {
  client_id: string
  client_name?: string
  logo_uri?: string
  policy_uri?: string
  tos_uri?: string
}

export interface ShownRequest {
  request_id: string
  status: 'pending' | 'approved' | 'denied' | 'expired' | 'redeemed'
  binding_message?: string
  scope: string
  created_at: number
  /** Seconds. */
  expires_in: number
  client: ShownClient
  passkey_required: boolean
  /** The user picks the one that the client shows. */
  number_choices?: string[]
}

export interface ShownActivity {
  request_id: string
  outcome: 'approved' | 'denied' | 'expired'
  reported: boolean
  /** Seconds since 1970. */
  decided_at: number
  scope: string
  binding_message?: string
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

export interface ShownUserCode {
  set: boolean
  /** Seconds since 1970, if the user set it. */
  set_at?: number
  /** The user signed in a while ago, and has to show that the code is theirs. */
  present_code_needed: boolean
}

/** What the API answered: its status, and its JSON. */
export interface Answered<Body> {
  status: number
  body: Body & {
    error?: string
    status?: string
    reason?: string
    passkey_required?: boolean
    proof_needed?: boolean
    locked?: boolean
    is_password?: boolean
  }
}

export type DeviceApi = ReturnType<typeof createDeviceApiClient>

export function createDeviceApiClient(send: SendToServer) {
  async function get<Body>(accessToken: string, path: string): Promise<Answered<Body>> {
    return read(await send({ method: 'GET', path, headers: headersFor(accessToken) }))
  }

  async function post<Body>(
    accessToken: string,
    path: string,
    fields: Record<string, unknown>,
  ): Promise<Answered<Body>> {
    const headers = { ...headersFor(accessToken), 'content-type': 'application/json' }
    return read(await send({ method: 'POST', path, headers, body: JSON.stringify(fields) }))
  }

  return {
    waiting: (token: string) => get<{ requests: ShownRequest[] }>(token, '/backchannel/authinfo?status=pending'),
    show: (token: string, requestId: string) =>
      get<{ requests: ShownRequest[] }>(token, `/backchannel/authinfo?request_id=${encodeURIComponent(requestId)}`),
    decide: (token: string, fields: Record<string, unknown>) => post<object>(token, '/backchannel/complete', fields),
    activity: (token: string) => get<{ activity: ShownActivity[] }>(token, '/backchannel/activity'),
    revoke: (token: string, requestId: string) => post<object>(token, '/backchannel/revoke', { request_id: requestId }),
    block: (token: string, clientId: string, blocked: boolean) =>
      post<object>(token, '/backchannel/block', { client_id: clientId, blocked }),
    passkeys: (token: string) => get<{ passkeys: ShownPasskey[] }>(token, '/backchannel/passkeys'),
    passkeyOptions: (token: string) => post<object>(token, '/backchannel/passkeys/options', {}),
    addPasskey: (token: string, passkey: string) => post<object>(token, '/backchannel/passkeys', { passkey }),
    removePasskey: (token: string, id: string) => post<object>(token, '/backchannel/passkeys/remove', { id }),
    confirmOptions: (token: string, requestId: string) =>
      post<object>(token, '/backchannel/passkeys/confirm-options', { request_id: requestId }),
    userCode: (token: string) => get<ShownUserCode>(token, '/backchannel/user-code'),
    setUserCode: (token: string, fields: Record<string, unknown>) =>
      post<object>(token, '/backchannel/user-code', fields),
    removeUserCode: (token: string, fields: Record<string, unknown>) =>
      post<object>(token, '/backchannel/user-code/remove', fields),
    subscribe: (token: string, subscription: string) =>
      post<object>(token, '/backchannel/push-subscriptions', { subscription }),
    unsubscribe: (token: string, endpoint: string) =>
      post<object>(token, '/backchannel/push-subscriptions/remove', { endpoint }),
  }
}

function headersFor(accessToken: string): Record<string, string> {
  return { authorization: `Bearer ${accessToken}`, accept: 'application/json' }
}

function read<Body>({ status, text }: { status: number; text: string }): Answered<Body> {
  return { status, body: (text === '' ? {} : JSON.parse(text)) as Answered<Body>['body'] }
}
