-- A keyed hash of the password that the configuration names for the user, so that a start notices that it was changed. Null
-- until the first start of a version that stores it.
alter table configured_users add column password_hash text;
