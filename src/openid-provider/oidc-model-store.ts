import {
  atMostRows,
  type Change,
  type Database,
  type ListStatement,
  mergeRowStatements,
  type SingleStatement,
  type Statement,
} from '../platform/storage/database.ts'
import { isValid } from '../user/token-validity-store.ts'

/**
 * A model of oidc-provider as it is stored: ids are hashed and the content is encrypted, so that the database contains
 * no usable token.
 */
export interface KeptModel {
  model: string
  idHash: string
  sealed: string
  grantHash: string | undefined
  uidHash: string | undefined
  clientId: string | undefined
  userId: string | undefined
  /** The id of the authentication request that the model was issued for. */
  requestId: string | undefined
  expiresAt: number | undefined
  /** Milliseconds since 1970. If too many models are stored for a grant, those that were issued last are kept. */
  issuedAt?: number | undefined
  /** The user's generation and the client's registration id at the time of issue; by default, the current values. */
  userGeneration?: number | undefined
  clientRegistration?: string | undefined
}

/** Records that a browser has used a session, for the user's list of sessions. */
export interface UsedSession {
  /** The id of the row, if a new row is added. An existing row keeps its id. */
  id: string
  uidHash: string
  /** The names of the browser and of its operating system; empty if unknown. */
  browser: string
  /** Milliseconds since 1970. */
  signedInAt: number
  now: number
}

/** The first use of a model that can be used once. */
export interface FirstUse {
  model: string
  idHash: string
  /** Milliseconds since 1970. */
  now: number
}

/** What a call of the token endpoint writes. */
export interface CallWrites {
  /** The authorization code or refresh token that the call marks as used, if any. */
  used: FirstUse | undefined
  /** The statements that store new models, as `put` returns them. */
  issued: ListStatement[]
  /** Further statements of the same transaction. */
  also: Statement[]
}

/** Ends the least recently used sessions of a user who has too many, in the transaction that stores a new one. */
export interface RoomForSession {
  also: Statement[]
  announce: Change[]
  lockKeys: string[]
  /** Called after the commit. */
  report(): void
}

/** Resolves to undefined if the user's sessions, including the new one (`uidHash`), are within the limit. */
export type MakeRoomForSession = (userId: string, uidHash: string) => Promise<RoomForSession | undefined>

/** A row of a valid model. */
export interface FoundModel {
  id_hash: string
  sealed: string
  consumed_at: number | null
  user_id: string | null
  user_generation: number
  client_id: string | null
  client_registration_id: string
  /**
   * 1 if the token response that contains this token can still be sent again. Selected only for access and refresh
   * tokens, and only if this server sends token responses again.
   */
  has_held_response?: number
}

const columns = 'id_hash, sealed, consumed_at, user_id, user_generation, client_id, client_registration_id'

/**
 * The name of the model for token responses that can be sent again (`ciba/token-endpoint/held-responses.ts`). Such a
 * response is stored in the same table as its tokens. So each statement that removes or invalidates the tokens also
 * removes or invalidates the response.
 */
export const HELD_RESPONSE = 'HeldResponse'

/** SQL: 1 if the token response that contains the token can still be sent again, 0 if not. */
const hasHeldResponse = `case when exists (select 1 from oidc_models held
  where held.grant_hash = found.grant_hash and held.model = '${HELD_RESPONSE}') then 1 else 0 end as has_held_response`

const findingBy = (
  column: 'id_hash' | 'uid_hash' | 'request_id',
  more = '',
) => `select ${columns}${more} from oidc_models found
  where model = $1 and ${column} = $2 and (expires_at is null or expires_at > $3) and ${isValid}`

const mayBeGivenAgain = new Set(['AccessToken', 'RefreshToken'])

export type OidcModelStore = ReturnType<typeof createOidcModelStore>

/**
 * Stores oidc-provider's tokens, grants, sessions and interactions.
 *
 * @param repeatsTokens whether token responses are stored, so that they can be sent again. If false, a look-up of a
 *   token does not search for the token response
 */
export function createOidcModelStore(database: Database, { repeatsTokens = true } = {}) {
  return {
    ...foundIn(database, repeatsTokens),

    put: putting,

    /**
     * Stores the session of a signed-in user. In the same transaction, records the use of the session in the user's
     * list of sessions. The list contains all sessions, whether the user signed in to the consent app or to another
     * client.
     *
     * @param room ends other sessions of the user in the same transaction
     */
    async runSession(statement: ListStatement, used: UsedSession, room?: RoomForSession): Promise<void> {
      const rowKeys = [...keysOf(statement), sessionKey(used.uidHash)]
      const { also = [], announce, lockKeys, report } = room ?? {}
      await database.step(statement, {
        also: [noteSession(used), ...also],
        rowKeys,
        ...(announce && { announce }),
        ...(lockKeys && { lockKeys }),
      })
      report?.()
    },

    /**
     * Executes `statement`, which `put` has returned.
     * @param instead id hashes of unfinished sign-ins, which are removed in the same transaction to make room
     * @param also further statements of the same transaction
     */
    async run(statement: ListStatement, instead: string[] = [], also: Statement[] = []): Promise<void> {
      const removing = instead.length > 0 ? [withoutSignIns(instead)] : []
      await database.step(statement, { also: [...removing, ...also], rowKeys: keysOf(statement) })
    },

    /**
     * Adds a model or, if it is stored already, merges the changes of this call into it. Other calls may change the
     * model at the same time.
     *
     * @param merged returns the new encrypted content. Its argument is the encrypted content that is stored when the
     *   row is locked
     * @param also further statements of the same transaction
     */
    async merge(kept: KeptModel, merged: (sealed: string) => string, also: Statement[]): Promise<void> {
      const first = { sql: lockingContent, values: [kept.model, kept.idHash] }
      await database.step<{ sealed: string | null }>(first, {
        also: ([stored]) => [putting(stored?.sealed ? { ...kept, sealed: merged(stored.sealed) } : kept), ...also],
        rowKeys: [modelKey(kept.model, kept.idHash)],
      })
    },

    /** Replaces an unfinished sign-in. If the sign-in is not stored any more, resolves to false and stores nothing. */
    async replaceSignIn(kept: KeptModel): Promise<boolean> {
      const first = {
        sql: `update oidc_models set sealed = $3, uid_hash = $4, user_id = $5, expires_at = $6, user_generation = coalesce(
                cast($7 as bigint), (select generation from user_generations where user_generations.user_id = $5), 0)
              where model = $1 and id_hash = $2 returning id_hash`,
        values: [
          ...[kept.model, kept.idHash, kept.sealed, kept.uidHash ?? null, kept.userId ?? null],
          ...[kept.expiresAt ?? null, kept.userGeneration ?? null],
        ],
      }
      return (await database.step(first, { rowKeys: [modelKey(kept.model, kept.idHash)] })).length > 0
    },

    /** Removes unfinished sign-ins, by the hashes of their ids. */
    async removeSignIns(idHashes: string[]): Promise<void> {
      await database.step(withoutSignIns(idHashes))
    },

    /** Marks a model as used. Resolves to whether this was its first use. */
    async consume(use: FirstUse): Promise<boolean> {
      return (await database.step(consuming(use), { rowKeys: [modelKey(use.model, use.idHash)] })).length > 0
    },

    /**
     * Executes the writes of a call in one transaction. Resolves to false, and writes nothing, if the code or token
     * that was sent has been used before.
     */
    async runCall({ used, issued, also }: CallWrites): Promise<boolean> {
      const using = used ? [consuming(used)] : []
      const [first, ...others] = mergeRowStatements([...using, ...issued, ...also])
      if (first === undefined) return true
      const rowKeys = [...(used ? [modelKey(used.model, used.idHash)] : []), ...issued.flatMap(keysOf)]
      return (await database.step(first, { also: others, rowKeys })).length > 0
    },

    ...removalsIn(database),
  }
}

/** The functions that remove models. */
function removalsIn(database: Database) {
  return {
    /** Removes a model. Resolves to whether the model existed. */
    async remove(model: string, idHash: string): Promise<boolean> {
      const first = {
        sql: 'delete from oidc_models where model = $1 and id_hash = $2 returning id_hash',
        values: [model, idHash],
      }
      return (await database.step(first, { rowKeys: [modelKey(model, idHash)] })).length > 0
    },

    /** Removes the token response of a grant, when one of its tokens is used. So the response is not sent again. */
    async forgetHeldResponse(grantHash: string): Promise<void> {
      await database.step({
        sql: `delete from oidc_models where grant_hash = $1 and model = '${HELD_RESPONSE}' returning id_hash`,
        values: [grantHash],
      })
    },

    async removeByGrant(grantHash: string): Promise<void> {
      const first = { sql: 'delete from oidc_models where grant_hash = $1 returning id_hash', values: [grantHash] }
      await database.step(first, { rowKeys: [modelKey('Grant', grantHash)] })
    },

    /**
     * Removes a grant of a client, and everything that was issued under it. Called if the client sends a refresh token
     * that was issued under this grant and is no longer stored. Exception: if `most` or more unused refresh tokens of
     * the grant are stored, the grant stays, because this limit may have removed the token although it was unused.
     */
    async endGrantOfUsedToken(grantHash: string, clientId: string, most: number): Promise<void> {
      const first = {
        sql: `delete from oidc_models where model = 'Grant' and id_hash = $1 and client_id = $2 and $3 > (
                select count(*) from oidc_models issued
                where issued.grant_hash = $1 and issued.model = 'RefreshToken' and issued.consumed_at is null
              ) returning id_hash`,
        values: [grantHash, clientId, most],
      }
      const also = [{ sql: 'delete from oidc_models where grant_hash = $1', values: [grantHash] }]
      await database.step(first, { also, rowKeys: [modelKey('Grant', grantHash)] })
    },

    /**
     * Returns the statement that removes all tokens of an authentication request. Tokens that were issued by a refresh
     * are also removed. They are found through the grant of the request, which exists longer than the first tokens.
     */
    removeByRequest: (requestId: string): Statement => ({
      // Each part of the union uses an index; with "or" Postgres would scan all tokens.
      sql: `with theirs as materialized (
              select model, id_hash from oidc_models where request_id = $1
              union
              select issued.model, issued.id_hash
              from oidc_models issuing join oidc_models issued on issued.grant_hash = issuing.id_hash
              where issuing.request_id = $1
            )
            delete from oidc_models where (model, id_hash) in (select model, id_hash from theirs)`,
      values: [requestId],
    }),

    /**
     * Removes up to `atMost` models that expired before `before` (milliseconds since 1970). Resolves to how many.
     */
    async forgetExpired(before: number, atMost: number): Promise<number> {
      const rows = await database.step({
        sql: `with old as materialized (
                select model, id_hash from oidc_models where expires_at is not null and expires_at < $1
                order by expires_at ${atMostRows(atMost)} /* for update skip locked */
              )
              delete from oidc_models where (model, id_hash) in (select model, id_hash from old) returning id_hash`,
        values: [before],
      })
      return rows.length
    },
  }
}

/** Finds models that are valid (`isValid`) and have not expired. */
function foundIn(database: Database, repeatsTokens: boolean) {
  const finding = findingBy('id_hash')
  const findingToken = repeatsTokens ? findingBy('id_hash', `, ${hasHeldResponse}`) : finding
  const findingByUid = findingBy('uid_hash')
  const findingByRequest = findingBy('request_id')
  return {
    async find(model: string, idHash: string, now: number): Promise<FoundModel | undefined> {
      const sql = mayBeGivenAgain.has(model) ? findingToken : finding
      const [row] = await database.read<FoundModel>(sql, [model, idHash, now])
      return row
    },

    async findByUid(model: string, uidHash: string, now: number): Promise<FoundModel | undefined> {
      const [row] = await database.read<FoundModel>(findingByUid, [model, uidHash, now])
      return row
    },

    /**
     * Resolves to whether tokens of an authentication request can still be used. Their grant must exist and must not
     * have expired. Since the grant was issued, its client must not have been removed, and its user must not have been
     * signed out, locked or removed.
     */
    async hasValidGrant(requestId: string, now: number): Promise<boolean> {
      const rows = await database.read<FoundModel>(findingByRequest, ['Grant', requestId, now])
      return rows.length > 0
    },
  }
}

const modelKey = (model: string, idHash: string) => `oidc model ${model} ${idHash}`

/** Returns the statement that adds or replaces a model. */
const putting = (kept: KeptModel): ListStatement => ({
  sql: `insert into oidc_models (model, id_hash, sealed, grant_hash, uid_hash, client_id, user_id, request_id,
          expires_at, issued_at, user_generation, client_registration_id)
        select model, id_hash, sealed, grant_hash, uid_hash, client_id, user_id, request_id, expires_at,
          coalesce(kept.issued_at, 0),
          coalesce(kept.user_generation,
            (select generation from user_generations where user_generations.user_id = kept.user_id), 0),
          coalesce(kept.client_registration,
            (select registration_id from clients where clients.id = kept.client_id), '')
        from rows($1) as kept (model text, id_hash text, sealed text, grant_hash text, uid_hash text, client_id text,
          user_id text, request_id text, expires_at bigint, issued_at bigint, user_generation bigint,
          client_registration text)
        where true
        on conflict (model, id_hash) do update set sealed = excluded.sealed, grant_hash = excluded.grant_hash,
          uid_hash = excluded.uid_hash, client_id = excluded.client_id, user_id = excluded.user_id,
          expires_at = excluded.expires_at, user_generation = excluded.user_generation,
          client_registration_id = excluded.client_registration_id
        returning id_hash`,
  rows: [rowOf(kept)],
})

/**
 * SQL: locks a model and reads its content. Returns one row even if the model is not stored yet, because
 * `database.step` executes the other statements only if the first statement returns a row.
 */
const lockingContent = `with stored as materialized (
    select sealed from oidc_models where model = $1 and id_hash = $2 /* for update */
  )
  select stored.sealed from (select 1 as present) as present left join stored on true`

const consuming = ({ model, idHash, now }: FirstUse): SingleStatement => ({
  sql: `update oidc_models set consumed_at = $3
        where model = $1 and id_hash = $2 and consumed_at is null returning id_hash`,
  values: [model, idHash, now],
})

const keysOf = ({ rows }: ListStatement) => rows.map(({ model, id_hash }) => modelKey(String(model), String(id_hash)))

/** The row key of a session in the user's list of sessions. */
export const sessionKey = (uidHash: string) => `session ${uidHash}`

function rowOf(kept: KeptModel) {
  return {
    model: kept.model,
    id_hash: kept.idHash,
    sealed: kept.sealed,
    grant_hash: kept.grantHash,
    uid_hash: kept.uidHash,
    client_id: kept.clientId,
    user_id: kept.userId,
    request_id: kept.requestId,
    expires_at: kept.expiresAt,
    issued_at: kept.issuedAt,
    user_generation: kept.userGeneration,
    client_registration: kept.clientRegistration,
  }
}

/**
 * Returns the statement that records the use of a session in the user's list of sessions. Records nothing if the
 * session has ended. If two calls of one browser have stored two rows for the session, the user and the expiry of the
 * row that expires later are recorded.
 */
export const noteSession = ({ id, uidHash, browser, signedInAt, now }: UsedSession): Statement => ({
  sql: `insert into user_sessions (id, user_id, uid_hash, browser, signed_in_at, seen_at, expires_at)
        select $1, user_id, uid_hash, $3, cast($4 as bigint), cast($5 as bigint), expires_at
        from oidc_models found
        where model = 'Session' and uid_hash = $2 and user_id is not null and expires_at > $5 and ${isValid}
        order by expires_at desc limit 1
        on conflict (uid_hash) do update set user_id = excluded.user_id,
          browser = case when excluded.browser = '' then user_sessions.browser else excluded.browser end,
          signed_in_at = excluded.signed_in_at, seen_at = excluded.seen_at, expires_at = excluded.expires_at
        returning id`,
  values: [id, uidHash, browser, signedInAt, now],
})

const withoutSignIns = (idHashes: string[]): Statement => ({
  sql: `delete from oidc_models where model = 'Interaction' and id_hash in (select value from each($1)) returning id_hash`,
  values: [JSON.stringify(idHashes)],
})
