/** Fills a Postgres database as after a year: all records are finished, and none has been pruned. */
import { Client } from 'pg'

export interface FinishedRows {
  url: string
  /** The client of the requests. */
  clientId: string
  /** The number of requests, and of rows in each of the other big tables; each user has twenty of them. */
  count: number
}

export const bigTables = [
  'backchannel_auth_requests',
  'backchannel_auth_consent_history',
  'notifications',
  'oidc_models',
  'used_assertions',
  'push_subscriptions',
  'user_generations',
] as const

/** The time of the first request, in milliseconds since 1970, and the milliseconds from each to the next. */
const first = 1_600_000_000_000
const apart = 80

/** The rows of one finished request: keys grow with the number, so that indexes are filled at their end. */
const perTable: Record<(typeof bigTables)[number], string> = {
  backchannel_auth_requests: `
    insert into backchannel_auth_requests (id, auth_req_id_hash, client_id, user_id, scope, binding_message, delivery_mode,
      status, created_at, expires_at, interval_seconds, settled_by, settled_at, redeemed_at)
    select id, hash, client, person, 'openid', 'Coffee 4.20', 'poll', 'redeemed', at, at + 600000, 5, id, at + 5000, at + 6000
    from finished`,
  backchannel_auth_consent_history: `
    insert into backchannel_auth_consent_history (id, request_id, client_id, user_id, outcome, decided_by, scope,
      binding_message, decided_at)
    select id, id, client, person, 'approved', 'user', 'openid', 'Coffee 4.20', at + 5000 from finished`,
  notifications: `
    insert into notifications (id, kind, subject, lane, state, created_at, due_at, give_up_at, attempts, last_outcome,
      settled_at)
    select id, 'email', id, person, 'delivered', at, at, at + 600000, 1, 'answered 250', at + 100 from finished`,
  oidc_models: `
    insert into oidc_models (model, id_hash, sealed, grant_hash, client_id, user_id, request_id, expires_at)
    select 'AccessToken', hash, 'v1.sealed', hash, client, person, id, at + 600000 from finished`,
  used_assertions: `
    insert into used_assertions (client_id, jti_hash, expires_at) select client, hash, at + 60000 from finished`,
  push_subscriptions: `
    insert into push_subscriptions (id, user_id, endpoint_hash, sealed, created_at, uid_hash)
    select id, person, hash, 'v1.sealed', at, hash from finished`,
  // Of users who were signed out: none of them was erased.
  user_generations: `
    insert into user_generations (user_id, generation, is_closed, changed_at) select id, 1, 0, at from finished`,
}

/** Adds the rows and updates the statistics of Postgres, as autovacuum does. */
export async function addFinishedRows({ url, clientId, count }: FinishedRows): Promise<void> {
  const finished = `with finished as (
    select substr(time, 1, 8) || '-' || substr(time, 9) || '-7' || lpad(n::text, 20, '0') as id,
      lpad(n::text, 43, '0') as hash, '${clientId}'::text as client, 'user-' || lpad((n / 20)::text, 9, '0') as person, at
    from (select n, at, lpad(to_hex(at), 12, '0') as time from generate_series(1, ${count}) as n,
        lateral (select ${first}::bigint + n::bigint * ${apart} as at) as moment) as numbers)`
  await Promise.all([
    inSession(url, [finished + perTable.backchannel_auth_requests]),
    inSession(
      url,
      bigTables.slice(1).map((table) => finished + perTable[table]),
    ),
  ])
  await inSession(url, [`vacuum analyze ${bigTables.join(', ')}`])
}

async function inSession(url: string, statements: string[]): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    for (const sql of statements) await client.query(sql)
  } finally {
    await client.end()
  }
}
