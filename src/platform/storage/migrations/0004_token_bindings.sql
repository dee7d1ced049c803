-- Whose key the tokens of a push are bound to: fixed when the client rang, because a push client never comes for them.
alter table backchannel_auth_requests add column certificate_thumbprint text;
alter table backchannel_auth_requests add column dpop_key text;
