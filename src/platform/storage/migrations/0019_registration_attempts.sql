-- How often somebody in a network has tried within an hour to register a client without permission. Each try may make the
-- server fetch something.
create table registration_attempts (
  -- keyed hash
  network text primary key,
  attempts bigint not null,
  -- when the first of these was
  since bigint not null
);
