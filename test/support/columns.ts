/**
 * All columns of all tables, classified by hand. A new column that is not listed here fails tests, so that its class
 * must be decided. Columns in `user` or `client` identify a user or a client, directly or by a hash. Columns in
 * `linked` identify a row that leads to a user and a client, such as a request or a session. Columns in `other` lead to
 * neither.
 */
export interface Columns {
  user?: string
  client?: string
  linked?: string
  other?: string
}

export const columnsByTable: Record<string, Columns> = {
  backchannel_auth_consent_history: {
    user: 'user_id',
    client: 'client_id device_client_id',
    linked: 'id request_id',
    other: `acr amr auth_time authorization_details binding_message claims decided_at decided_by is_former outcome reason reported
      resources scope`,
  },
  backchannel_auth_requests: {
    user: 'user_id',
    client: 'certificate_thumbprint client_id dpop_key notification_endpoint',
    linked: 'auth_req_id_hash call_back_sealed id settled_by',
    other: `acr acr_values amr approved_details auth_time authorization_details binding_message claims created_at delivery_mode
      expires_at first_interval_seconds interval_seconds is_former kept_polls last_polled_at redeemed_at resources scope settled_at
      slowed_at status`,
  },
  blocked_clients: { user: 'user_id', client: 'client_id', other: 'blocked_at' },
  clients: {
    client: 'id metadata notification_endpoint registration_id registration_token_hash secret_hash secret_sealed',
    other:
      'changed_at compared_name config_fingerprint created_at delivery_mode name_with_signs origin registered_from',
  },
  configured_users: { user: 'user_id', other: 'password_hash since' },
  denial_pauses: { user: 'user_id', client: 'client_id', other: 'pause paused_until' },
  doorbell_migrations: { other: 'applied_at fingerprint name number' },
  ended_sessions: { user: 'uid_hash', other: 'ended_at' },
  initial_access_tokens: { other: 'created_at expires_at token_hash uses_left' },
  last_commits: { other: 'connection registered_at step' },
  notifications: {
    user: 'address lane sealed subject',
    client: 'address lane sealed',
    linked: 'subject',
    other: 'attempts created_at due_at give_up_at id is_former kind last_outcome lease revoked_at settled_at state',
  },
  oidc_models: {
    user: 'sealed uid_hash user_generation user_id',
    client: 'client_id client_registration_id sealed',
    linked: 'grant_hash request_id',
    other: 'consumed_at expires_at id_hash issued_at model',
  },
  pairwise_subjects: { user: 'subject user_id', other: 'created_at' },
  passkey_challenges: { user: 'purpose', linked: 'purpose', other: 'challenge_hash expires_at' },
  passkeys: {
    user: 'credential_id name public_key user_id',
    other: 'counter created_at id transports used_at',
  },
  push_subscriptions: { user: 'endpoint_hash sealed uid_hash user_id', other: 'created_at id refusals used_at' },
  registration_attempts: { other: 'attempts network since' },
  server_keys: { other: 'created_at name public sealed' },
  sign_in_attempts: { user: 'subject_hash', other: 'attempts last_at pause paused_until' },
  signed_requests: { linked: 'request_id sealed', other: 'received_at' },
  signing_keys: {
    other: `algorithm created_at generation kid private_sealed public_jwk published_until retired_at revoked_at signs_from
      verifies_until`,
  },
  unknown_users: { client: 'client_id', other: 'since told' },
  used_assertions: { client: 'client_id', other: 'expires_at jti_hash' },
  user_code_tries: { user: 'counter user_id', client: 'counter', other: 'tried_at tries' },
  user_codes: { user: 'hash user_id', other: 'set_at' },
  user_generations: { user: 'user_id', other: 'changed_at erased_at former_until generation is_closed removed_at' },
  user_sessions: { user: 'browser id uid_hash user_id', other: 'expires_at seen_at signed_in_at' },
  users: {
    user: 'claims email id locale name password_hash phone_number username',
    other: 'created_at disabled',
  },
}

/** Returns the names in a list of columns. */
export const namesIn = (columns: string | undefined): string[] => columns?.split(/\s+/) ?? []
