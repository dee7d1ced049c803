-- A removed user's decisions stay as evidence. If another person gets the id, they are not shown to this person.
-- removed_at: until when a removed user could have decided; set until somebody has the id again. former_until: until when
-- the id belonged to another person.
alter table user_generations add column removed_at bigint;
alter table user_generations add column former_until bigint;
