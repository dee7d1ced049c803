-- What exactly is asked for (RFC 9396), and for which services (RFC 8707): JSON, as it came. What the user approved of
-- the details may be less than was asked, and is what the tokens say.
alter table backchannel_auth_requests add column authorization_details text;
alter table backchannel_auth_requests add column approved_details text;
alter table backchannel_auth_requests add column resources text;
-- What the user was shown; of an approval, what was approved of it.
alter table backchannel_auth_consent_history add column authorization_details text;
alter table backchannel_auth_consent_history add column resources text;
