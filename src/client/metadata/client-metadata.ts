/** What a client says about itself (RFC 7591, CIBA Core §4). */

export const CIBA_GRANT = 'urn:openid:params:grant-type:ciba'

/** The scope with which a user's device may see and decide what waits for that user. */
export const DECIDE_SCOPE = 'ciba:decide'

/** The server's own client: the app in which users approve. It is registered at each start. */
export const CONSENT_APP = 'doorbell-consent-app'

export type DeliveryMode = 'poll' | 'ping' | 'push'

/** The ways to say which user is meant (CIBA Core §7.1). */
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

/** A public key, RFC 7517. */
export type PublicJwk = Record<string, unknown> & { kty: 'EC' | 'RSA' | 'OKP' }

/** A client that has been checked: all defaults are filled in, metadata Doorbell does not understand is gone (DR-4). */
export interface ClientMetadata {
  /** 1 to 255 printable ASCII characters, no spaces. */
  client_id: string
  /** In clear, as it was given; hashed before it is stored, unless `client_secret_jwt` needs it. */
  client_secret?: string
  /** What users read when they are asked. */
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
  /** Separated by spaces. Without it the client may ask for every scope of the server. */
  scope?: string
  token_endpoint_auth_method: ClientAuthenticationMethod
  token_endpoint_auth_signing_alg?: string
  /** Whose certificate proves it is the client, with `tls_client_auth`: exactly one of these five. */
  tls_client_auth_subject_dn?: string
  tls_client_auth_san_dns?: string
  tls_client_auth_san_uri?: string
  tls_client_auth_san_ip?: string
  tls_client_auth_san_email?: string
  /** Whether its access tokens are bound to the certificate it collects them with. */
  tls_client_certificate_bound_access_tokens?: boolean
  /** Whether its access tokens are bound to the key of the DPoP proof that it then has to send. */
  dpop_bound_access_tokens?: boolean
  jwks?: { keys: PublicJwk[] }
  jwks_uri?: string
  id_token_signed_response_alg?: 'ES256' | 'RS256' | 'PS256'
  /** In seconds. */
  default_max_age?: number
  /** What it may ask for in detail (RFC 9396 §10). Without it, every type of the server. */
  authorization_details_types?: string[]
  require_auth_time?: boolean
  /** `pairwise`: the client knows users by names of its own (PW-1). */
  subject_type?: 'public' | 'pairwise'
  /** Lists the addresses that belong to one party, which then shares its names for users. */
  sector_identifier_uri?: string
  /** How the client gets its tokens. A client without it cannot ring. */
  backchannel_token_delivery_mode?: DeliveryMode
  /** What its authentication requests are signed with. With it, all of them are. */
  backchannel_authentication_request_signing_alg?: string
  /** Where a ping or push goes. */
  backchannel_client_notification_endpoint?: string
  /** Whether this is a device service, trusted to answer for users it has authenticated itself. */
  backchannel_device_service?: boolean
  /** Whether users have to confirm with a passkey what this client asks of them. */
  backchannel_require_passkey?: boolean
  /** Whether it asks users for their code and sends it. Users who have one are then asked through it no more without. */
  backchannel_user_code_parameter?: boolean
  /** How it may say which user it means; in any way unless told. */
  backchannel_allowed_hints?: HintKind[]
  /** What it hears of a user who is not there: `requests.unknownUsers` unless told. */
  backchannel_unknown_users?: 'error' | 'pretend'
  /** How much this client may ask, in the place of the server's `limits`. Only an operator says it. */
  limits?: ClientLimits
}

/** 0 is no limit; what is left out is as for everybody. */
export interface ClientLimits {
  perClient?: { open?: number; perMinute?: number; unknownPerMinute?: number }
  perClientAndUser?: { open?: number; perMinute?: number }
}

/** Client metadata as somebody writes it: everything but `client_id` may be left out, unknown metadata is ignored. */
export type ClientMetadataInput = { [Name in keyof ClientMetadata]?: ClientMetadata[Name] | undefined } & {
  client_id: string
  [unknown: string]: unknown
}

/** Whether a method rests on a secret that both sides know. */
export const needsSecret = (authentication: unknown): boolean => secretMethods.includes(authentication)

// Of whatever JSON may hold: an object can be made so that it cannot become a text.
const secretMethods: unknown[] = ['client_secret_basic', 'client_secret_post', 'client_secret_jwt']
