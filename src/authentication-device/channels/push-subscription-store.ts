import type { Database } from '../../platform/storage/database.ts'
import type { RowOf } from '../../platform/storage/row.ts'
import { isSignedIn, signedInLock } from '../../user/token-validity-store.ts'

/** A subscription as stored; `sealed` is encrypted. */
export interface KeptSubscription {
  id: string
  userId: string
  endpointHash: string
  sealed: string
}

export type PushSubscriptionStore = ReturnType<typeof createPushSubscriptionStore>

/** Stores users' push subscriptions, encrypted: the endpoint and the keys are secrets of the browser. */
export function createPushSubscriptionStore(database: Database) {
  return {
    /**
     * Adds a subscription. Each endpoint has one row, which belongs to the user who subscribed last. Only the newest
     * `most` subscriptions of a user are kept. Resolves to whether the subscription was added. No subscription is added
     * if the user is locked or was removed, or if the access token with the hash `tokenHash` is not valid any more.
     *
     * @param replacedHash the hash of another endpoint: the user's subscription with this endpoint is removed in the same
     *   step
     */
    async add(
      subscription: KeptSubscription,
      now: number,
      most: number,
      tokenHash?: string,
      replacedHash?: string,
    ): Promise<boolean> {
      const { id, userId, endpointHash, sealed } = subscription
      const rows = await database.step(
        { sql: adding, values: [id, userId, endpointHash, sealed, now, tokenHash ?? null] },
        {
          lockKeys: signedInLock(userId, tokenHash),
          also: [
            { sql: removingReplaced, values: [userId, replacedHash ?? '', endpointHash] },
            { sql: removingOldest, values: [userId, most] },
          ],
        },
      )
      return rows.length > 0
    },

    async listForUser(userId: string): Promise<KeptSubscription[]> {
      const rows = await database.read<RowOf<KeptSubscription>>(
        'select id, user_id, endpoint_hash, sealed from push_subscriptions where user_id = $1 order by id',
        [userId],
      )
      return rows.map((row) => ({
        id: row.id,
        userId: row.user_id,
        endpointHash: row.endpoint_hash,
        sealed: row.sealed,
      }))
    },

    /**
     * Removes another user's subscription with this endpoint, and assigns the given user's subscription to the session
     * of the token. Resolves to whether the given user has a subscription with this endpoint, and whether another
     * user's subscription was removed. If the token is not valid any more, changes nothing and resolves to undefined.
     */
    async claim(
      userId: string,
      endpointHash: string,
      tokenHash?: string,
    ): Promise<{ isSubscribed: boolean; endedAnother: boolean } | undefined> {
      const values = [endpointHash, userId, tokenHash ?? null]
      const ended = await database.step(
        { sql: endingAnother, values },
        { rowKeys: [`push subscription ${endpointHash}`] },
      )
      const [own] = await database.read<{ is_subscribed: number; is_of_another_session: number }>(lookingUpOwn, values)
      if (own === undefined) return undefined
      // If the user has signed in again since the subscription was stored, the row still names the earlier session.
      if (own.is_subscribed === 1 && own.is_of_another_session === 1) {
        await database.step(
          {
            sql: `update push_subscriptions set uid_hash = ${sessionOfToken('$3')} where endpoint_hash = $1 and user_id = $2
                  and ${isOfAnother} and ${isSignedIn('$3')} returning id`,
            values,
          },
          { lockKeys: signedInLock(userId, tokenHash) },
        )
      }
      return { isSubscribed: own.is_subscribed === 1, endedAnother: ended.length > 0 }
    },

    /** Resolves to the ids of all users with a subscription. */
    async users(): Promise<string[]> {
      const rows = await database.read<{ user_id: string }>('select distinct user_id from push_subscriptions')
      return rows.map(({ user_id }) => user_id)
    },

    async used(id: string, now: number): Promise<void> {
      await database.step({
        sql: 'update push_subscriptions set used_at = $2, refusals = 0 where id = $1 returning id',
        values: [id, now],
      })
    },

    /**
     * Counts a message that the push service has refused. After `most` refused messages in succession, removes the
     * subscription.
     */
    async refused(id: string, most: number): Promise<void> {
      const removal = { sql: 'delete from push_subscriptions where id = $1 and refusals >= $2', values: [id, most] }
      await database.step({ sql: counting, values: [id] }, { also: [removal] })
    },

    /**
     * Removes a subscription. Resolves to whether this user had a subscription with this endpoint. If the access token
     * is not valid any more, changes nothing and resolves to undefined.
     */
    async remove(userId: string, endpointHash: string, tokenHash?: string): Promise<boolean | undefined> {
      const values = [userId, endpointHash]
      const [row] = await database.step<{ count: number }>(
        { sql: countingOwn, values: [...values, tokenHash ?? null] },
        { also: [{ sql: removingOwn, values }], lockKeys: signedInLock(userId, tokenHash) },
      )
      return row && row.count > 0
    },
  }
}

const counting = 'update push_subscriptions set refusals = refusals + 1 where id = $1 returning id'

/**
 * Returns a SQL expression for the session to which an access token belongs: the hash of the session's `uid`. Its value
 * is null if the token belongs to no session.
 * @param hash SQL: the hash of the token
 */
const sessionOfToken = (hash: string) => `(select uid_hash from oidc_models
  where model = 'AccessToken' and id_hash = cast(${hash} as text))`

const adding = `
  insert into push_subscriptions (id, user_id, endpoint_hash, sealed, created_at, uid_hash)
  select $1, $2, $3, $4, cast($5 as bigint), coalesce(${sessionOfToken('$6')}, '')
  where not exists (select 1 from user_generations where user_id = $2 and is_closed = 1)
  and ${isSignedIn('$6')}
  on conflict (endpoint_hash) do update
  set user_id = excluded.user_id, sealed = excluded.sealed, created_at = excluded.created_at, used_at = null,
  refusals = 0, uid_hash = excluded.uid_hash
  returning id`

const removingReplaced =
  'delete from push_subscriptions where user_id = $1 and endpoint_hash = $2 and endpoint_hash <> $3'

const removingOldest = `delete from push_subscriptions where user_id = $1 and id not in (
  select id from push_subscriptions where user_id = $1 order by created_at desc, id desc limit $2)`

/** SQL: whether the subscription belongs to another session than the access token `$3`. */
const isOfAnother = `${sessionOfToken('$3')} <> coalesce(uid_hash, '')`

const endingAnother = `delete from push_subscriptions
  where endpoint_hash = $1 and user_id <> $2 and ${isSignedIn('$3')} returning id`

const lookingUpOwn = `
  select case when id is null then 0 else 1 end as is_subscribed,
  case when ${isOfAnother} then 1 else 0 end as is_of_another_session
  from (select 1 as present where ${isSignedIn('$3')}) as present
  left join push_subscriptions on endpoint_hash = $1 and user_id = $2`

/** SQL: counts the user's subscriptions with an endpoint. Returns no row if the access token `$3` is not valid. */
const countingOwn = `
  select (select count(*) from push_subscriptions where user_id = $1 and endpoint_hash = $2) as count
  from (select 1 as present where ${isSignedIn('$3')}) as present`

const removingOwn = 'delete from push_subscriptions where user_id = $1 and endpoint_hash = $2'
