-- is_former: 1 if the row is about a former person, and another person has the id of this user now. Before, the time of the
-- row was compared with user_generations.former_until, which is wrong after a clock was set back.
alter table backchannel_auth_requests add column is_former integer;
alter table backchannel_auth_consent_history add column is_former integer;
alter table notifications add column is_former integer;
