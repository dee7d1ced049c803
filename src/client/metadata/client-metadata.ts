/** Client metadata (RFC 7591, CIBA Core §4). */

/** The grant type of CIBA (CIBA Core §10.1). */
export const CIBA_GRANT = 'urn:openid:params:grant-type:ciba'

/** The scope that lets a user's device read and decide the user's requests. */
export const DECIDE_SCOPE = 'ciba:decide'

/**
 * The id of the server's own client: the consent app, in which users approve requests. The server registers this client
 * at each start.
 */
export const CONSENT_APP = 'doorbell-consent-app'

/** How a client gets its tokens (CIBA Core §5). */
export type DeliveryMode = 'poll' | 'ping' | 'push'

/** The parameters that identify the user (CIBA Core §7.1). */
export const hintKinds = ['login_hint', 'id_token_hint', 'login_hint_token'] as const
export type HintKind = (typeof hintKinds)[number]

export type ClientAuthenticationMethod =
  | 'client_secret_basic'
  | 'client_secret_post'
  | 'client_secret_jwt'
  | 'private_key_jwt'
  | 'tls_client_auth'
  | 'self_signed_tls_client_auth'
  | 'none'

/** A public key (RFC 7517). */
export type PublicJwk = Record<string, unknown> & { kty: 'EC' | 'RSA' | 'OKP' }

/** Validated client metadata: defaults are filled in, unknown metadata is left out. */
export interface ClientMetadata {
  /** 1 to 255 printable ASCII characters, no spaces. */
  client_id: string
  /**
   * The secret in clear text, as registered. Only a hash of the secret is stored. For `client_secret_jwt`, the
   * encrypted secret is stored too.
   */
  client_secret?: string
  /** The name that users see in requests. */
  client_name?: string
  client_uri?: string
  logo_uri?: string
  policy_uri?: string
  tos_uri?: string
  contacts?: string[]
  application_type?: 'web' | 'native'
  redirect_uris: string[]
  grant_types: string[]
  response_types: string[]
  /**
   * The scopes that the client may request, separated by spaces. If left out, the client may request every scope of the
   * server.
   */
  scope?: string
  token_endpoint_auth_method: ClientAuthenticationMethod
  token_endpoint_auth_signing_alg?: string
  /**
   * The subject of the certificate for `tls_client_auth`. Exactly one of these five members is set (RFC 8705 §2.1.2).
   */
  tls_client_auth_subject_dn?: string
  tls_client_auth_san_dns?: string
  tls_client_auth_san_uri?: string
  tls_client_auth_san_ip?: string
  tls_client_auth_san_email?: string
  /** Whether access tokens are bound to the client certificate of the token request (RFC 8705 §3). */
  tls_client_certificate_bound_access_tokens?: boolean
  /** Whether access tokens are bound to a DPoP key. If true, token requests must contain a proof (RFC 9449 §5.2). */
  dpop_bound_access_tokens?: boolean
  jwks?: { keys: PublicJwk[] }
  jwks_uri?: string
  id_token_signed_response_alg?: 'ES256' | 'RS256' | 'PS256'
  /** Maximum age of the user's authentication, in seconds. */
  default_max_age?: number
  /**
   * Types of authorization details that the client may request (RFC 9396 §10). If left out, the client may request all
   * types of the server.
   */
  authorization_details_types?: string[]
  require_auth_time?: boolean
  /** `pairwise`: each sector gets its own subjects for users (OpenID Connect Core §8.1). */
  subject_type?: 'public' | 'pairwise'
  /**
   * The URL of a JSON list of URLs, such as the redirect URIs, of clients that belong to one party. All clients of that
   * party get the same subject for a user.
   */
  sector_identifier_uri?: string
  /** How the client gets its tokens. A client without a delivery mode cannot send authentication requests. */
  backchannel_token_delivery_mode?: DeliveryMode
  /** The signing algorithm of signed authentication requests. If set, every request of the client must be signed. */
  backchannel_authentication_request_signing_alg?: string
  /** Where pings and pushes are sent. */
  backchannel_client_notification_endpoint?: string
  /**
   * Whether the client is a device service. A device service is trusted to decide requests for users that it has
   * authenticated itself.
   */
  backchannel_device_service?: boolean
  /** Whether users must confirm this client's requests with a passkey. */
  backchannel_require_passkey?: boolean
  /**
   * Whether the client asks users for their user code. If true, a request for a user who has a code must contain the
   * code.
   */
  backchannel_user_code_parameter?: boolean
  /** The kinds of hints that the client may use; all by default. */
  backchannel_allowed_hints?: HintKind[]
  /** What the server responds if the hint matches no user. By default, `requests.unknownUsers` applies. */
  backchannel_unknown_users?: 'error' | 'pretend'
  /** Limits for this client instead of the server's `limits`. Only an operator can set them. */
  limits?: ClientLimits
}

/** Limits for one client. 0 means no limit. A limit that is left out is taken from the `limits` of the server. */
export interface ClientLimits {
  perClient?: { open?: number; perMinute?: number; unknownPerMinute?: number }
  perClientAndUser?: { open?: number; perMinute?: number }
}

/** Client metadata as input: every member except `client_id` may be left out, and unknown members are ignored. */
export type ClientMetadataInput = { [Name in keyof ClientMetadata]?: ClientMetadata[Name] | undefined } & {
  client_id: string
  [unknown: string]: unknown
}

/** Whether the authentication method needs a client secret. */
export const needsSecret = (authentication: unknown): boolean => secretMethods.includes(authentication)

// The type is `unknown[]`, so that `includes` accepts any metadata value as it is. A conversion of the value to a
// string could throw, for example for `{"toString": 1}`.
const secretMethods: unknown[] = ['client_secret_basic', 'client_secret_post', 'client_secret_jwt']
