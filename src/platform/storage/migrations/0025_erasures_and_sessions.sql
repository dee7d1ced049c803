-- When the user was erased. The row stays for some minutes under the id of the user, so that calls that began before the
-- erasure are refused; then it is deleted. Null for all other users.
alter table user_generations add column erased_at bigint;
create index user_generations_by_erasure on user_generations (erased_at) where erased_at is not null;

-- SHA-256 of the uid of the session in which the browser was subscribed or last seen: it ends together with this session.
alter table push_subscriptions add column uid_hash text;
create index push_subscriptions_by_uid on push_subscriptions (uid_hash) where uid_hash is not null;
