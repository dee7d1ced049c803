-- When the user was erased. The row stays for some minutes under the id of the user, so that calls that began before the
-- erasure are refused; then it is deleted. Null for all other users.
alter table user_generations add column erased_at bigint;
create index user_generations_by_erasure on user_generations (erased_at) where erased_at is not null;
