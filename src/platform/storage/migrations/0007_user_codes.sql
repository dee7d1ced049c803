-- Codes with which users keep clients from asking them at will. A row without a hash says that the user has removed the
-- code, so that the one of the configuration does not come back.
create table user_codes (
  user_id text primary key,
  hash text,
  set_at bigint not null
);

-- Tries at codes, by user and by client. Once there are as many as are allowed, nothing is counted and no code passes,
-- until the last of them is long enough ago.
create table user_code_tries (
  counter text primary key,
  tries bigint not null check (tries > 0),
  tried_at bigint not null
);
create index user_code_tries_by_time on user_code_tries (tried_at);
