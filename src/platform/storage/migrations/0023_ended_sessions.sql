-- Sessions of the provider that a user has ended. A call that began before writes its session back when it ends: it finds
-- it no more, whenever it does so. Removed when no such session could live any longer.
create table ended_sessions (
  uid_hash text primary key,
  ended_at bigint not null
);
create index ended_sessions_by_age on ended_sessions (ended_at);
