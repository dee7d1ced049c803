-- Limits count what is open, of a user and of a client, in the statement that accepts the next request.
create index backchannel_auth_requests_open_by_user on backchannel_auth_requests (user_id, expires_at)
  where status = 'pending';
create index backchannel_auth_requests_open_by_client on backchannel_auth_requests (client_id, expires_at)
  where status = 'pending';

-- A client whose request a user has denied waits before it may ask that user again: longer with each denial, until an
-- approval takes the row away.
create table denial_pauses (
  user_id text not null,
  client_id text not null,
  -- milliseconds: how long the last denial makes the client wait
  pause bigint not null,
  paused_until bigint not null,
  primary key (user_id, client_id)
);
create index denial_pauses_over on denial_pauses (paused_until);

-- Attempts to sign in with a password, by the name that was typed and by where they came from, each as a keyed hash.
create table sign_in_attempts (
  subject_hash text primary key,
  attempts bigint not null,
  paused_until bigint not null,
  last_at bigint not null
);
create index sign_in_attempts_by_age on sign_in_attempts (last_at);
