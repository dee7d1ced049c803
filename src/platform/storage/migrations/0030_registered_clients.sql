-- With open registration, most clients are registered by themselves. Without these indexes, each registration would read
-- all of them: to count those of the caller's address, and to compare names with those of the operator's clients.
create index clients_by_registering_address on clients (registered_from, created_at) where registered_from is not null;
create index clients_of_operator on clients (id) where registration_token_hash is null;
