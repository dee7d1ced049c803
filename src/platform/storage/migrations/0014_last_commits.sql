-- The last step that each connection of ours to Postgres has committed: written in the step itself, so that another
-- connection can tell whether a commit happened whose answer was lost. SQLite, in the same process, has no such question.
create table last_commits (
  connection text primary key,
  step bigint not null,
  -- when the connection was registered last; not needed a day later
  registered_at bigint not null
);
