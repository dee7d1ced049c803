-- Signing keys follow each other. What a key is at a moment (published, signing, retired, …) is not written down but
-- told by these times and the clock, so that every node knows it by itself and nothing has to happen on time.
create table rotating_signing_keys (
  kid text primary key,
  algorithm text not null,
  -- of two nodes that make the next key at the same time, one wins
  generation bigint not null,
  public_jwk text not null,
  -- erased when the key is revoked
  private_sealed text,
  -- since then it is in the key set
  created_at bigint not null,
  signs_from bigint not null,
  -- known as soon as there is a successor: when that one takes over, when the last token signed until then has run
  -- out, and until when an ID token is still good as a hint
  retired_at bigint,
  published_until bigint,
  verifies_until bigint,
  revoked_at bigint,
  unique (algorithm, generation),
  check ((retired_at is null) = (published_until is null)),
  check ((retired_at is null) = (verifies_until is null)),
  check (revoked_at is null or retired_at is not null),
  check ((revoked_at is null) = (private_sealed is not null))
);
insert into rotating_signing_keys
  (kid, algorithm, generation, public_jwk, private_sealed, created_at, signs_from, retired_at, published_until, verifies_until)
  select kid, algorithm, generation, public_jwk, private_sealed, created_at, created_at,
         -- nothing has retired keys so far but operators by hand: 366 days
         retired_at, retired_at, retired_at + 31622400000
  from signing_keys;
drop table signing_keys;
alter table rotating_signing_keys rename to signing_keys;
