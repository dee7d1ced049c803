-- How long the pause lasts that ends at paused_until, in milliseconds: a pause that begins far in the future was stored
-- before the clock was set back, and is over. For pauses from before, the longest that can be configured.
alter table sign_in_attempts add column pause bigint not null default 86400000;
