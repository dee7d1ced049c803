-- A client that registered itself under a name with signs, each of which may look like any letter: its name with these
-- signs, in the form in which names are compared. The index contains only such clients, which are few, so that a start
-- compares their names without reading those of all clients.
alter table clients add column name_with_signs text;
create index registered_names_with_signs on clients (id)
  where registration_token_hash is not null and name_with_signs is not null;
