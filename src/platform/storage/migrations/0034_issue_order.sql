-- Of one grant, the models that were issued last are kept. Rows of earlier versions were issued before all others.
alter table oidc_models add column issued_at bigint not null default 0;

-- The models of one kind of a grant are found without reading its other models.
create index oidc_models_of_grant on oidc_models (grant_hash, model) where grant_hash is not null;
drop index oidc_models_by_grant;
