-- Whose code was tried, so that a new code, or the end of a user, takes every counter about that user along.
alter table user_code_tries add column user_id text;
create index user_code_tries_by_user on user_code_tries (user_id) where user_id is not null;
