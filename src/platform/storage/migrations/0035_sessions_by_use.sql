-- The sessions of a user, in the order of their use: those that are too many are found without reading the others.
create index user_sessions_by_use on user_sessions (user_id, seen_at);
drop index user_sessions_by_user;
