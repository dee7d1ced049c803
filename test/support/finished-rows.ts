/**
 * Fills a Postgres database with as many rows as a server writes in a year without pruning. All records are finished.
 */
import { Client } from 'pg'

export interface FinishedRows {
  url: string
  /** The client of the requests. */
  clientId: string
  /** The number of requests; each user has twenty of them. */
  count: number
  /** The number of rows in each of the other big tables. Default: `count`. */
  inOthers?: number
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

/**
 * The time of the first request, in milliseconds since 1970. Two consecutive requests are `apart` milliseconds apart.
 */
const first = 1_600_000_000_000
const apart = 80

/**
 * The statement for each table that inserts a row for each finished request. Keys grow with the number of the request,
 * so that rows are added at the end of the indexes.
 */
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
  // The rows are those of users who were signed out. No row has `erased_at`.
  user_generations: `
    insert into user_generations (user_id, generation, is_closed, changed_at) select id, 1, 0, at from finished`,
}

/** Adds the rows and updates the statistics of Postgres, as autovacuum does. */
export async function addFinishedRows({ url, clientId, count, inOthers = count }: FinishedRows): Promise<void> {
  const finished = (rows: number) => `with finished as (
    select substr(time, 1, 8) || '-' || substr(time, 9) || '-7' || lpad(n::text, 20, '0') as id,
      lpad(n::text, 43, '0') as hash, '${clientId}'::text as client, 'user-' || lpad((n / 20)::text, 9, '0') as person, at
    from (select n, at, lpad(to_hex(at), 12, '0') as time from generate_series(1, ${rows}) as n,
        lateral (select ${first}::bigint + n::bigint * ${apart} as at) as moment) as numbers)`
  await Promise.all([
    inSession(url, [finished(count) + perTable.backchannel_auth_requests]),
    inSession(
      url,
      bigTables.slice(1).map((table) => finished(inOthers) + perTable[table]),
    ),
  ])
  await inSession(url, [`vacuum analyze ${bigTables.join(', ')}`])
}

/**
 * The other tables that grow with the number of users, clients and callers, with the statement that inserts the rows.
 */
const perGrowingTable = {
  users: `insert into users (id, username, email, phone_number, created_at)
    select person, person, person || '@example.com', '+43' || n, at from many`,
  clients: `insert into clients (id, origin, metadata, created_at, changed_at, registration_token_hash, registered_from)
    select client, 'command', '{}', at, at, hash, hash from many`,
  user_sessions: `insert into user_sessions (id, user_id, uid_hash, browser, signed_in_at, seen_at, expires_at)
    select id, person, hash, 'Firefox', at, at, at + 600000 from many`,
  ended_sessions: 'insert into ended_sessions (uid_hash, ended_at) select hash, at from many',
  passkeys: `insert into passkeys (id, user_id, credential_id, public_key, counter, created_at)
    select id, person, hash, 'x', 0, at from many`,
  passkey_challenges: `insert into passkey_challenges (challenge_hash, purpose, expires_at)
    select hash, 'sign-in', at from many`,
  signed_requests: `insert into signed_requests (request_id, sealed, received_at) select id, 'x', at from many`,
  pairwise_subjects: 'insert into pairwise_subjects (subject, user_id, created_at) select hash, person, at from many',
  user_codes: `insert into user_codes (user_id, hash, set_at) select person, 'x', at from many`,
  user_code_tries: `insert into user_code_tries (counter, user_id, tries, tried_at) select hash, person, 1, at from many`,
  blocked_clients: 'insert into blocked_clients (user_id, client_id, blocked_at) select person, client, at from many',
  denial_pauses: `insert into denial_pauses (user_id, client_id, pause, paused_until)
    select person, client, 1, at from many`,
  sign_in_attempts: `insert into sign_in_attempts (subject_hash, attempts, paused_until, last_at)
    select hash, 1, at, at from many`,
  registration_attempts: 'insert into registration_attempts (network, attempts, since) select hash, 1, at from many',
  initial_access_tokens: `insert into initial_access_tokens (token_hash, created_at, expires_at, uses_left)
    select hash, at, at, 1 from many`,
  unknown_users: 'insert into unknown_users (client_id, told, since) select client, 1, at from many',
}

/** All tables that grow. */
export const growingTables: readonly string[] = [...bigTables, ...Object.keys(perGrowingTable)]

/** Tables with few rows. They have a row for each key, migration, connection, or user in the configuration file. */
export const smallTables: readonly string[] = [
  'configured_users',
  'doorbell_migrations',
  'last_commits',
  'server_keys',
  'signing_keys',
]

/**
 * Adds `count` rows to each table that grows with users, clients and callers, and updates the statistics of Postgres.
 */
export async function addGrowingRows({ url, count }: Pick<FinishedRows, 'url' | 'count'>): Promise<void> {
  const many = `with many as (
    select n, lpad(n::text, 36, 'x') as id, lpad(n::text, 43, 'x') as hash, 'client-' || n as client,
      'person-' || n as person, ${first}::bigint + n::bigint * ${apart} as at
    from generate_series(1, ${count}) as n) `
  const tables = Object.entries(perGrowingTable)
  await inSession(
    url,
    tables.map(([, sql]) => many + sql),
  )
  await inSession(url, [`vacuum analyze ${Object.keys(perGrowingTable).join(', ')}`])
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
