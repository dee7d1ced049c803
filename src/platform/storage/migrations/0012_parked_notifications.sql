-- Few are parked, and many are delivered: to count the ones, or to erase what they say, nobody goes through the others.
create index notifications_parked on notifications (settled_at) where state = 'parked';
create index notifications_parked_with_content on notifications (settled_at)
  where state = 'parked' and sealed is not null;
