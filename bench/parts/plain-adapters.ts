/**
 * Adapters for oidc-provider, like those that applications write. The Postgres adapter has one table for all models. It
 * stores the payload as JSON, and finds it by id, uid, user code or grant. The memory adapter is one map. The memory
 * adapter of the library is not used, because it stores at most a thousand entries.
 */
import type { Adapter, AdapterPayload } from 'oidc-provider'
import { Pool } from 'pg'

export interface PlainAdapters {
  of(model: string): Adapter
  /** Stores the entry of `id` also under `ids`. Used to add many requests at once. */
  copy(model: string, id: string, ids: string[]): Promise<void>
  close(): Promise<void>
}

const table = `
  create table if not exists payloads (
    model text not null,
    id text not null,
    payload jsonb not null,
    grant_id text,
    user_code text,
    uid text,
    expires_at timestamptz,
    consumed_at timestamptz,
    primary key (model, id)
  );
  create index if not exists payloads_by_grant on payloads (grant_id) where grant_id is not null;
  create index if not exists payloads_by_user_code on payloads (user_code) where user_code is not null;
  create index if not exists payloads_by_uid on payloads (uid) where uid is not null;
  create index if not exists payloads_by_expiry on payloads (expires_at)`

interface Row {
  payload: AdapterPayload
  consumed_at: Date | null
}

export async function openPostgresAdapters(url: string): Promise<PlainAdapters> {
  // Doorbell also has ten connections by default.
  const pool = new Pool({ connectionString: url, max: 10 })
  await pool.query(table)

  async function find(condition: string, model: string, value: string) {
    const { rows } = await pool.query<Row>(
      `select payload, consumed_at from payloads where model = $1 and ${condition} = $2`,
      [model, value],
    )
    const [row] = rows
    return row && { ...row.payload, ...(row.consumed_at && { consumed: row.consumed_at.getTime() / 1000 }) }
  }

  return {
    of: (model) => ({
      async upsert(id, payload, expiresIn) {
        await pool.query(
          `insert into payloads (model, id, payload, grant_id, user_code, uid, expires_at)
           values ($1, $2, $3, $4, $5, $6, $7)
           on conflict (model, id) do update set payload = excluded.payload, grant_id = excluded.grant_id,
             user_code = excluded.user_code, uid = excluded.uid, expires_at = excluded.expires_at`,
          [
            model,
            id,
            JSON.stringify(payload),
            payload.grantId ?? null,
            payload.userCode ?? null,
            payload.uid ?? null,
            expiresIn ? new Date(Date.now() + expiresIn * 1000) : null,
          ],
        )
      },
      find: (id) => find('id', model, id),
      findByUserCode: (userCode) => find('user_code', model, userCode),
      findByUid: (uid) => find('uid', model, uid),
      async consume(id) {
        await pool.query('update payloads set consumed_at = now() where model = $1 and id = $2', [model, id])
      },
      async destroy(id) {
        await pool.query('delete from payloads where model = $1 and id = $2', [model, id])
      },
      async revokeByGrantId(grantId) {
        await pool.query('delete from payloads where grant_id = $1', [grantId])
      },
    }),
    async copy(model, id, ids) {
      await pool.query(
        `insert into payloads (model, id, payload, grant_id, user_code, uid, expires_at)
         select model, copies.id, jsonb_set(payload, '{jti}', to_jsonb(copies.id)), grant_id, user_code, uid, expires_at
         from payloads, unnest($3::text[]) as copies (id) where payloads.model = $1 and payloads.id = $2`,
        [model, id, ids],
      )
    },
    close: () => pool.end(),
  }
}

/** Expired entries are not removed, because no entry expires during a benchmark. */
export function openMemoryAdapters(): PlainAdapters {
  const payloads = new Map<string, AdapterPayload>()
  const ids = {
    uid: new Map<string, string>(),
    userCode: new Map<string, string>(),
    grant: new Map<string, string[]>(),
  }
  const find = async (key: string | undefined) => (key === undefined ? undefined : payloads.get(key))

  return {
    of: (model) => ({
      async upsert(id, payload) {
        const key = `${model} ${id}`
        payloads.set(key, payload)
        if (payload.uid) ids.uid.set(`${model} ${payload.uid}`, key)
        if (payload.userCode) ids.userCode.set(`${model} ${payload.userCode}`, key)
        if (payload.grantId) ids.grant.set(payload.grantId, [...(ids.grant.get(payload.grantId) ?? []), key])
      },
      find: (id) => find(`${model} ${id}`),
      findByUid: (uid) => find(ids.uid.get(`${model} ${uid}`)),
      findByUserCode: (userCode) => find(ids.userCode.get(`${model} ${userCode}`)),
      async consume(id) {
        const payload = payloads.get(`${model} ${id}`)
        if (payload) payload.consumed = Math.floor(Date.now() / 1000)
      },
      async destroy(id) {
        payloads.delete(`${model} ${id}`)
      },
      async revokeByGrantId(grantId) {
        for (const key of ids.grant.get(grantId) ?? []) payloads.delete(key)
        ids.grant.delete(grantId)
      },
    }),
    async copy(model, id, copies) {
      const payload = payloads.get(`${model} ${id}`)!
      for (const jti of copies) payloads.set(`${model} ${jti}`, { ...payload, jti })
    },
    async close() {},
  }
}
