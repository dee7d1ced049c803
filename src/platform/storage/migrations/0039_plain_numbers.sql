-- Phone numbers without visual separators and without `tel:`, so that a hint finds a number that is written in another way.
drop index users_by_plain_number;
create index users_by_plain_number on users (
  replace(replace(replace(replace(replace(replace(
    case when lower(substr(phone_number, 1, 4)) = 'tel:' then substr(phone_number, 5) else phone_number end,
  ' ', ''), '-', ''), '.', ''), '(', ''), ')', ''), '/', '')
);
