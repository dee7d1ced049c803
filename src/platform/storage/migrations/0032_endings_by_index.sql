-- Endings find the rows of their user or client by an index, and read no others. So do deletions by age.

-- Tokens too, not only sessions and grants: an erasure also deletes what was issued while the grants were deleted.
create index oidc_models_of_user on oidc_models (user_id, model) where user_id is not null;
drop index oidc_models_by_user;

-- Messages to the browsers of a user.
create index notifications_by_browser on notifications (lane) where kind = 'web_push';

-- Together with the index of pending requests: all open requests of a client. As in 0013, the condition `is not null` keeps
-- the index for statements that compare the client.
create index backchannel_auth_requests_approved_by_client on backchannel_auth_requests (client_id)
  where status = 'approved' and client_id is not null;

-- Each minute, those that are over are deleted.
create index registration_attempts_by_age on registration_attempts (since);
create index unknown_users_by_age on unknown_users (since);
