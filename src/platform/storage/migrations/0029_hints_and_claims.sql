-- Phone numbers without visual separators, so that a hint finds a number that is written in another way.
create index users_by_plain_number on users (
  replace(replace(replace(replace(replace(replace(phone_number, ' ', ''), '-', ''), '.', ''), '(', ''), ')', ''), '/', '')
);

-- The claims that the client requested one by one: JSON with id_token and userinfo. Null if it requested none.
alter table backchannel_auth_requests add column claims text;
alter table backchannel_auth_consent_history add column claims text;
