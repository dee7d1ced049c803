-- How often a client was told within a minute that nobody is who it named: it could find out so who is there.
create table unknown_users (
  client_id text primary key,
  told bigint not null,
  -- when the first of these was
  since bigint not null
);
