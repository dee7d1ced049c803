-- When the user, or an operator, ended the tokens of a push that its client has not confirmed. The rows of the tokens are
-- deleted then, as they are when the tokens have expired. The client is told which of the two it was.
alter table notifications add column revoked_at bigint;
