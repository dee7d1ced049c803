-- Phone numbers without visual separators, so that a hint finds a number that is written in another way.
create index users_by_plain_number on users (
  replace(replace(replace(replace(replace(replace(phone_number, ' ', ''), '-', ''), '.', ''), '(', ''), ')', ''), '/', '')
);
