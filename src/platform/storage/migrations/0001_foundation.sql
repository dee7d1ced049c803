-- The tables of Doorbell. One text for SQLite and Postgres: times are integer milliseconds since 1970, JSON is text,
-- a hash or a sealed text is base64url. docs/reference/storage.md shows an example row of each.

create table clients (
  id text primary key,
  -- 'config': written in the configuration file, which wins when it changes; 'command': added by command or registration
  origin text not null check (origin in ('config', 'command')),
  config_fingerprint text,
  -- RFC 7591 metadata but for what has a column of its own
  metadata text not null,
  secret_hash text,
  -- only for client_secret_jwt, which has to know the secret itself
  secret_sealed text,
  delivery_mode text check (delivery_mode in ('poll', 'ping', 'push')),
  notification_endpoint text,
  created_at bigint not null,
  changed_at bigint not null,
  check ((delivery_mode is not null and delivery_mode in ('ping', 'push')) = (notification_endpoint is not null))
);

create table used_assertions (
  client_id text not null,
  jti_hash text not null,
  expires_at bigint not null,
  primary key (client_id, jti_hash)
);
create index used_assertions_by_expiry on used_assertions (expires_at);

create table users (
  id text primary key,
  username text unique,
  email text unique,
  phone_number text unique,
  name text,
  locale text,
  password_hash text,
  disabled bigint not null default 0 check (disabled in (0, 1)),
  claims text,
  created_at bigint not null
);

create table signing_keys (
  kid text primary key,
  algorithm text not null,
  -- two nodes that start together on an empty database make generation 1 twice; one of them wins
  generation bigint not null,
  public_jwk text not null,
  private_sealed text not null,
  created_at bigint not null,
  retired_at bigint,
  unique (algorithm, generation)
);

create table backchannel_auth_requests (
  id text primary key,
  auth_req_id_hash text not null unique,
  client_id text not null,
  user_id text not null,
  scope text not null,
  acr_values text,
  binding_message text,
  delivery_mode text not null check (delivery_mode in ('poll', 'ping', 'push')),
  notification_endpoint text,
  -- what a ping or push must say again: auth_req_id and client_notification_token. Moves on to the notification
  call_back_sealed text,
  status text not null check (status in ('pending', 'approved', 'denied', 'expired', 'redeemed')),
  created_at bigint not null,
  expires_at bigint not null,
  interval_seconds bigint not null,
  last_polled_at bigint,
  slowed_at bigint,
  -- how the user was authenticated when approving; goes into the tokens
  acr text,
  amr text,
  auth_time bigint,
  -- the row of backchannel_auth_consent_history that settled it
  settled_by text,
  settled_at bigint,
  redeemed_at bigint,
  check ((status = 'pending') = (settled_at is null)),
  check ((settled_by is null) = (settled_at is null)),
  check ((status = 'redeemed') = (redeemed_at is not null)),
  check ((delivery_mode = 'poll') = (notification_endpoint is null)),
  check (expires_at > created_at)
);
create index backchannel_auth_requests_by_user on backchannel_auth_requests (user_id, created_at);
create index backchannel_auth_requests_running_out on backchannel_auth_requests (expires_at)
  where status in ('pending', 'approved');

create table backchannel_auth_consent_history (
  id text primary key,
  request_id text not null,
  client_id text not null,
  user_id text not null,
  outcome text not null check (outcome in ('approved', 'denied', 'expired')),
  -- who settled it: the user's own session, a trusted device service, the clock, the application's own code
  decided_by text not null check (decided_by in ('user', 'device_service', 'clock', 'application')),
  device_client_id text,
  acr text,
  amr text,
  auth_time bigint,
  reported bigint not null default 0 check (reported in (0, 1)),
  -- what the user was shown
  scope text not null,
  binding_message text,
  decided_at bigint not null
);
create index consent_history_by_request on backchannel_auth_consent_history (request_id);
create index consent_history_by_user on backchannel_auth_consent_history (user_id, decided_at);

create table notifications (
  id text primary key,
  kind text not null,
  subject text not null,
  -- one slow receiver must not delay the others: a worker sends only a few of a lane at a time
  lane text not null,
  address text,
  sealed text,
  state text not null check (state in ('waiting', 'sending', 'delivered', 'parked')),
  created_at bigint not null,
  -- when to send it next; while it is being sent, when another worker may take it over
  due_at bigint not null,
  give_up_at bigint not null,
  attempts bigint not null default 0,
  lease text,
  last_outcome text,
  settled_at bigint,
  check ((state = 'sending') = (lease is not null)),
  check ((state in ('delivered', 'parked')) = (settled_at is not null)),
  check (state <> 'delivered' or sealed is null)
);
create index notifications_due on notifications (due_at) where state in ('waiting', 'sending');
create index notifications_by_subject on notifications (subject);
create index notifications_settled on notifications (settled_at) where settled_at is not null;

create table oidc_models (
  model text not null,
  -- the SHA-256 of the token, session id, code …: none of them lies here in clear
  id_hash text not null,
  sealed text not null,
  grant_hash text,
  uid_hash text,
  client_id text,
  user_id text,
  -- the authentication request it came out of, if one
  request_id text,
  expires_at bigint,
  consumed_at bigint,
  primary key (model, id_hash)
);
create index oidc_models_by_grant on oidc_models (grant_hash) where grant_hash is not null;
create index oidc_models_by_uid on oidc_models (uid_hash) where uid_hash is not null;
create index oidc_models_by_request on oidc_models (request_id) where request_id is not null;
create index oidc_models_by_expiry on oidc_models (expires_at) where expires_at is not null;
