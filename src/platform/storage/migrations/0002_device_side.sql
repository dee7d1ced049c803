-- The user's side: what a user does not want, where a user's devices are told, and what a user signs in with.

create table blocked_clients (
  user_id text not null,
  client_id text not null,
  blocked_at bigint not null,
  primary key (user_id, client_id)
);

create table push_subscriptions (
  id text primary key,
  user_id text not null,
  -- the endpoint and keys of the browser's push service, sealed: whoever has them can write to the device
  endpoint_hash text not null unique,
  sealed text not null,
  created_at bigint not null,
  used_at bigint
);
create index push_subscriptions_by_user on push_subscriptions (user_id);

create table passkeys (
  id text primary key,
  user_id text not null,
  credential_id text not null unique,
  public_key text not null,
  counter bigint not null,
  transports text,
  name text,
  created_at bigint not null,
  used_at bigint
);
create index passkeys_by_user on passkeys (user_id);

-- A challenge is answered once, by whom it was made for, for what it was made for.
create table passkey_challenges (
  challenge_hash text primary key,
  purpose text not null,
  expires_at bigint not null
);
create index passkey_challenges_by_expiry on passkey_challenges (expires_at);

-- Keys the server makes for itself on first start (VAPID, say), sealed.
create table server_keys (
  name text primary key,
  public text not null,
  sealed text not null,
  created_at bigint not null
);
