-- Clients that register themselves: the token with which each looks after its registration, as a hash, and from where
-- it came, as a keyed hash, so that one address cannot fill the table.
alter table clients add column registration_token_hash text;
alter table clients add column registered_from text;

-- Tokens that let a client register. Used up in the step that keeps the client.
create table initial_access_tokens (
  token_hash text primary key,
  created_at bigint not null,
  expires_at bigint not null,
  uses_left bigint not null check (uses_left >= 0)
);
create index initial_access_tokens_by_expiry on initial_access_tokens (expires_at);

-- Which user a pairwise subject stands for: it can be computed from the user, but not the other way round.
create table pairwise_subjects (
  subject text primary key,
  user_id text not null,
  created_at bigint not null
);

create index oidc_models_by_client on oidc_models (client_id) where client_id is not null;
create index backchannel_auth_requests_by_client on backchannel_auth_requests (client_id, created_at);
