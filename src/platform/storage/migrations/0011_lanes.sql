-- Where many wait for one receiver, those of the others are found without going through them.
create index notifications_by_lane on notifications (kind, lane, due_at) where state in ('waiting', 'sending');
