/**
 * Limits how many access tokens, refresh tokens and authorization codes are stored for one grant, and how many grants
 * of one user to one client.
 */
import { atMostRows, type Statement } from '../platform/storage/database.ts'
import { byAge } from '../platform/storage/stored-period.ts'
import type { KeptModel } from './oidc-model-store.ts'

/**
 * Maximum number of access tokens of one grant. Refresh tokens and codes each have the same maximum. Without it, a user
 * could cause any number of tokens in one session. For example, a redirect renews the access token of the consent app,
 * and each use of a public client's refresh token creates a new one. The maximum does not disturb clients, because they
 * use only the newest token of a grant, or a few tokens if they request one for each resource.
 */
export const mostOfGrant = 50
/**
 * Maximum number of grants of one user to one client for which no token or code is stored. Such a grant may still be in
 * use, because a session refers to its grant even after the tokens have expired. It may also be useless, because the
 * client never redeemed the code or the session has ended.
 */
export const mostUnusedGrants = 50
/**
 * Maximum number of grants of one user to one client. Grants of CIBA requests are not counted. If a session has ended,
 * its grant stays as long as the grant has a token with the scope `offline_access`. So a user could cause any number of
 * grants by signing in again and again. The maximum is twice the number of sessions that a user may have.
 */
export const mostGrants = 200
/** Upper limit for the grants that one transaction removes. With each grant, up to 150 tokens and codes are removed. */
const mostRemovedGrants = 5
/**
 * Upper limit for the rows that one transaction removes. More rows have to be removed only after an update from a
 * version that did not limit the number of tokens and grants. Later transactions remove the rest.
 */
const mostRemoved = 100

/** The models whose number under one grant is limited, because a user or a client can cause any number of them. */
const isBounded = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken'])

/** SQL: the value by which grants are sorted. The grant that expires last has the greatest value. */
const latestGrant = byAge({ storedAt: 'issued_at', value: 'expires_at' }, '$4')

/** SQL: the other grants of the same user to the same client, except for those of CIBA requests. */
const theirGrants = "user_id = $1 and model = 'Grant' and client_id || '' = $2 and id_hash <> $3 and request_id is null"

/** Returns the statements that remove the models that exceed a maximum once `kept` is stored. */
export function withoutTooMany(kept: KeptModel): Statement[] {
  if (kept.model === 'Grant') return [withoutUnusedGrants(kept), withoutOldGrants(kept)]
  return isBounded.has(kept.model) ? [withoutOldTokens(kept)] : []
}

/**
 * Returns the statement that enforces `mostOfGrant`. Of the models of the same type and grant, it keeps the new one and
 * those that were issued last, whatever their lifetimes are. Used models are removed first. Their only purpose is to
 * detect a second use, and for refresh tokens, `used-refresh-tokens.ts` detects a second use even without the row.
 * Models without a grant, such as access tokens after a sign-in at another provider, are counted for each user and
 * client instead.
 */
function withoutOldTokens({ model, idHash, grantHash, userId, clientId, issuedAt = 0 }: KeptModel): Statement {
  // `client_id || ''` prevents the use of an index on the client. So each database engine uses the index on the user.
  const theirs =
    grantHash === undefined
      ? "user_id = $1 and model = $2 and client_id || '' = $5 and grant_hash is null"
      : 'grant_hash = $1 and model = $2'
  return {
    sql: `with kept as materialized (
            select id_hash from oidc_models where ${theirs} and id_hash <> $3
            order by case when consumed_at is null then 0 else 1 end, ${byAge({ storedAt: 'issued_at' }, '$4')} desc,
              expires_at desc
            ${atMostRows(mostOfGrant - 1)}
          ), old as materialized (
            select model, id_hash from oidc_models
            where ${theirs} and id_hash <> $3 and id_hash not in (select id_hash from kept)
            order by id_hash ${atMostRows(mostRemoved)} /* for update skip locked */
          )
          delete from oidc_models where (model, id_hash) in (select model, id_hash from old)`,
    values: [
      ...[grantHash ?? userId ?? null, model, idHash, issuedAt],
      ...(grantHash === undefined ? [clientId ?? null] : []),
    ],
  }
}

/**
 * Returns the statement that enforces `mostUnusedGrants`. It removes grants of the same user to the same client that
 * have no token or code. It keeps the new grant, those that expire last, and grants of CIBA requests.
 */
function withoutUnusedGrants({ idHash, userId, clientId, issuedAt = 0 }: KeptModel): Statement {
  const theirs = `${theirGrants}
    and not exists (select 1 from oidc_models issued where issued.grant_hash = given.id_hash)`
  return {
    sql: `with kept as materialized (
            select id_hash from oidc_models given where ${theirs}
            order by ${latestGrant} desc ${atMostRows(mostUnusedGrants - 1)}
          ), old as materialized (
            select model, id_hash from oidc_models given where ${theirs} and id_hash not in (select id_hash from kept)
            order by id_hash ${atMostRows(mostRemoved)} /* for update skip locked */
          )
          delete from oidc_models where (model, id_hash) in (select model, id_hash from old)`,
    values: [userId ?? null, clientId ?? null, idHash, issuedAt],
  }
}

/**
 * Returns the statement that enforces `mostGrants`. It removes grants of the same user to the same client, and
 * everything that was issued under them. It keeps the new grant, those that expire last, and grants of CIBA requests.
 */
function withoutOldGrants({ idHash, userId, clientId, issuedAt = 0 }: KeptModel): Statement {
  return {
    sql: `with kept as materialized (
            select id_hash from oidc_models where ${theirGrants} order by ${latestGrant} desc ${atMostRows(mostGrants - 1)}
          ), old as materialized (
            select model, id_hash from oidc_models where ${theirGrants} and id_hash not in (select id_hash from kept)
            order by id_hash ${atMostRows(mostRemovedGrants)} /* for update skip locked */
          ), ended as materialized (
            select model, id_hash from old
            union
            select issued.model, issued.id_hash from old join oidc_models issued on issued.grant_hash = old.id_hash
          )
          delete from oidc_models where (model, id_hash) in (select model, id_hash from ended)`,
    values: [userId ?? null, clientId ?? null, idHash, issuedAt],
  }
}
