-- What ends with a user and with a client.

-- What was issued in a user's name counts as long as the user's generation is what it was then. An ending raises it, so
-- that what is being issued at the same moment ends too. No row is generation 0. The rows stay: no id is given twice.
create table user_generations (
  user_id text primary key,
  generation bigint not null,
  -- locked, or gone: nothing is asked of this user
  is_closed bigint not null check (is_closed in (0, 1)),
  changed_at bigint not null
);

-- The users the configuration names, to notice whom it names no more.
create table configured_users (
  user_id text primary key,
  since bigint not null
);

alter table oidc_models add column user_generation bigint not null default 0;
-- What else a user has hangs on one of these.
create index if not exists oidc_models_by_user on oidc_models (user_id) where model in ('Session', 'Grant');

-- Another one whenever an id that was removed comes back: what was issued to the client before does not.
alter table clients add column registration_id text not null default '';
alter table oidc_models add column client_registration_id text not null default '';

create index pairwise_subjects_by_user on pairwise_subjects (user_id);

-- Why a request ended that nobody answered: the user was locked or removed, or has blocked the client.
alter table backchannel_auth_consent_history add column reason text;
