-- A client that registered itself: its name in the form in which names are compared. The operator is told if a client of
-- the operator has the same name. Without the index, each start would read the names of all clients.
alter table clients add column compared_name text;
create index registered_clients_by_name on clients (compared_name) where registration_token_hash is not null;
