/**
 * The codes a refusal may carry to the outside. Those of CIBA Core §11 and §13, OAuth 2.0 (RFC 6749 §5.2), bearer
 * tokens (RFC 6750 §3.1), DPoP (RFC 9449 §5, §8), authorization details (RFC 9396 §5), resource indicators (RFC 8707
 * §2) and step-up (RFC 9470 §3), and three for the device API, which has no standard.
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
  /** For us: goes to the log, never to the outside. */
  detail?: string
  /** When the same code has another status here: `access_denied` is 403 at the backchannel endpoint, 400 at the token endpoint. */
  status?: number
  headers?: Record<string, string>
  /** Further members of the JSON answer. */
  members?: Record<string, string | number | boolean>
}

/**
 * A request that is refused: made where the reason is known, translated into HTTP in one place (`platform/http/answer.ts`).
 *
 * It has three voices. The `code` is the standard's, for the client. `hint` is for the client's developer and becomes
 * `error_description`: printable ASCII, and nothing in it comes from the request (AE-2, M29). `detail` is for us and
 * goes to the log.
 */
export class OAuthError extends Error {
  readonly code: OAuthErrorCode
  readonly hint: string
  readonly status: number
  readonly detail: string | undefined
  readonly headers: Record<string, string>
  readonly members: Record<string, string | number | boolean>

  constructor(code: OAuthErrorCode, hint: string, voices: OAuthErrorOptions = {}) {
    super(`${code}: ${hint}`)
    this.name = 'OAuthError'
    this.code = code
    this.hint = hint
    this.status = voices.status ?? statuses[code]
    this.detail = voices.detail
    this.headers = voices.headers ?? {}
    this.members = voices.members ?? {}
  }
}
