-- The interval that the client was told. Null for requests that an earlier version has accepted.
alter table backchannel_auth_requests add column first_interval_seconds bigint;
-- How many polls in a row have kept a lengthened interval; null counts as none.
alter table backchannel_auth_requests add column kept_polls bigint;
