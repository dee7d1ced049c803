/**
 * The error codes in responses: those of CIBA Core §11 and §13, OAuth 2.0 (RFC 6749 §5.2), bearer tokens (RFC 6750
 * §3.1), DPoP (RFC 9449 §5, §8), authorization details (RFC 9396 §5), resource indicators (RFC 8707 §2), step-up (RFC
 * 9470 §3) and client registration (RFC 7591 §3.2.2), and three codes for the device API, which has no standard.
 */
export type OAuthErrorCode = keyof typeof statuses

const statuses = {
  invalid_request: 400,
  invalid_scope: 400,
  expired_login_hint_token: 400,
  unknown_user_id: 400,
  unauthorized_client: 400,
  missing_user_code: 400,
  invalid_user_code: 400,
  invalid_binding_message: 400,
  invalid_authorization_details: 400,
  invalid_target: 400,
  invalid_dpop_proof: 400,
  use_dpop_nonce: 400,
  invalid_client: 401,
  access_denied: 403,
  authorization_pending: 400,
  slow_down: 400,
  expired_token: 400,
  invalid_grant: 400,
  unsupported_grant_type: 400,
  invalid_client_metadata: 400,
  invalid_redirect_uri: 400,
  invalid_token: 401,
  insufficient_user_authentication: 401,
  insufficient_scope: 403,
  not_found: 404,
  already_decided: 409,
  expired: 410,
} as const

export interface OAuthErrorOptions {
  /** Logged only, never sent in a response. */
  detail?: string
  /** Replaces the default HTTP status of the code. `access_denied` is 403 by default, but 400 at the token endpoint. */
  status?: number
  headers?: Record<string, string>
  /** Additional members of the JSON response. */
  members?: Record<string, string | number | boolean>
}

/**
 * An error response. The code that finds the error throws it, and `platform/http/answer.ts` converts it to an HTTP
 * response.
 *
 * `code` is for the client. `hint` is for the developer of the client and becomes `error_description`. It must be
 * printable ASCII, and must contain nothing from the request. `detail` is for the operator and is only logged.
 */
export class OAuthError extends Error {
  readonly code: OAuthErrorCode
  readonly hint: string
  readonly status: number
  readonly detail: string | undefined
  readonly headers: Record<string, string>
  readonly members: Record<string, string | number | boolean>

  constructor(code: OAuthErrorCode, hint: string, options: OAuthErrorOptions = {}) {
    super(`${code}: ${hint}`)
    this.name = 'OAuthError'
    this.code = code
    this.hint = hint
    this.status = options.status ?? statuses[code]
    this.detail = options.detail
    this.headers = options.headers ?? {}
    this.members = options.members ?? {}
  }
}
