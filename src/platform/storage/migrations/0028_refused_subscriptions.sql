-- How often in succession the push service has refused a message to this browser: after a few times the row is removed.
alter table push_subscriptions add column refusals bigint not null default 0;
