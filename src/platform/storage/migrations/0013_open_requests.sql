-- While Postgres believes that no request is open, every index of open requests seems equally cheap, and one of them may be
-- gone through for each request that comes. So each is for those alone who ask for what it is sorted by: the columns are
-- never null, but only who compares them says so.
drop index backchannel_auth_requests_open_by_user;
create index backchannel_auth_requests_open_by_user on backchannel_auth_requests (user_id, expires_at)
  where status = 'pending' and user_id is not null;
drop index backchannel_auth_requests_open_by_client;
create index backchannel_auth_requests_open_by_client on backchannel_auth_requests (client_id, expires_at)
  where status = 'pending' and client_id is not null;
-- What is redeemed is not open either, but only who looks for what runs out says so.
drop index backchannel_auth_requests_running_out;
create index backchannel_auth_requests_running_out on backchannel_auth_requests (expires_at)
  where status in ('pending', 'approved') and redeemed_at is null;
