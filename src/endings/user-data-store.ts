import { ofPresentUser } from '../ciba/decision/consent-history-store.ts'
import type { Database, Value } from '../platform/storage/database.ts'
import { ofPresentPerson } from '../user/user-generation-store.ts'

export type KeptRow = Record<string, Value>

const requestsOfPresentPerson = `select id from backchannel_auth_requests
    where user_id = $1 and ${ofPresentPerson('backchannel_auth_requests', 'created_at')}
  union select request_id from backchannel_auth_consent_history history where ${ofPresentUser}`

/**
 * For each table, the query for the data about a user. `$1` is the user id. The queries leave out secrets, data that
 * helps to find a secret, and data about an earlier person who had this id. Each table of `tablesOfUser` is included. A
 * test compares the two lists.
 */
export const keptByTable: Record<string, string> = {
  users: `select id, username, email, phone_number, name, locale, disabled, claims, created_at,
    case when password_hash is null then 0 else 1 end as has_password from users where id = $1`,
  configured_users: 'select since from configured_users where user_id = $1',
  user_generations:
    'select generation, is_closed, changed_at from user_generations where user_id = $1 and erased_at is null',
  oidc_models:
    'select model, client_id, request_id, expires_at from oidc_models where user_id = $1 order by expires_at',
  user_sessions:
    'select id, browser, signed_in_at, seen_at, expires_at from user_sessions where user_id = $1 order by signed_in_at',
  passkeys: 'select id, name, transports, created_at, used_at from passkeys where user_id = $1 order by created_at',
  push_subscriptions: 'select id, created_at, used_at from push_subscriptions where user_id = $1 order by created_at',
  user_codes: `select set_at, case when hash is null then 0 else 1 end as has_code from user_codes where user_id = $1`,
  user_code_tries: 'select tries, tried_at from user_code_tries where user_id = $1',
  blocked_clients: 'select client_id, blocked_at from blocked_clients where user_id = $1 order by blocked_at',
  denial_pauses: 'select client_id, pause, paused_until from denial_pauses where user_id = $1',
  pairwise_subjects: 'select subject, created_at from pairwise_subjects where user_id = $1',
  backchannel_auth_requests: `select id, client_id, scope, acr_values, binding_message, authorization_details,
    approved_details, resources, delivery_mode, status, acr, amr, auth_time, created_at, expires_at, settled_at, redeemed_at
    from backchannel_auth_requests where user_id = $1 and ${ofPresentPerson('backchannel_auth_requests', 'created_at')}
    order by created_at, id`,
  backchannel_auth_consent_history: `select id, request_id, client_id, outcome, decided_by, device_client_id, acr, amr,
    auth_time, reported, reason, scope, binding_message, authorization_details, resources, decided_at
    from backchannel_auth_consent_history history where ${ofPresentUser}
    order by decided_at, id`,
  signed_requests: `select request_id, received_at from signed_requests
    where request_id in (${requestsOfPresentPerson})`,
  notifications: `select id, kind, subject, state, created_at, attempts, last_outcome from notifications
    where subject in (${requestsOfPresentPerson} union select cast($1 as text)) and ${ofPresentPerson('notifications', 'created_at')}
    order by created_at`,
}

/** Reads the data that is stored about a user. */
export function createUserDataStore(database: Database) {
  return {
    /** Resolves to the rows about the user, by table. Tables without such rows are left out. */
    async find(userId: string): Promise<Record<string, KeptRow[]>> {
      const found: Record<string, KeptRow[]> = {}
      for (const [table, sql] of Object.entries(keptByTable)) {
        const rows = await database.read<KeptRow>(sql, [userId])
        if (rows.length > 0) found[table] = rows
      }
      return found
    },
  }
}
