-- Signed authentication requests, each as it was received, for whoever has to prove later what a client asked. They
-- hold the client's notification token too, so they lie here sealed.
create table signed_requests (
  request_id text primary key,
  sealed text not null,
  received_at bigint not null
);
