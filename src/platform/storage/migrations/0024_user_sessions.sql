-- Where a user is signed in, as they see it. One row for each session of the provider; it goes with the session.
create table user_sessions (
  id text primary key,
  user_id text not null,
  -- SHA-256 of the session's uid
  uid_hash text not null unique,
  -- which browser on which system, in a few words
  browser text not null,
  signed_in_at bigint not null,
  seen_at bigint not null,
  expires_at bigint not null
);
create index user_sessions_by_user on user_sessions (user_id);
create index user_sessions_by_end on user_sessions (expires_at);

-- All sessions and grants of a user end together.
create index if not exists oidc_models_by_user on oidc_models (user_id) where model in ('Session', 'Grant');
