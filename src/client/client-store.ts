import { setImmediate as nextTurn } from 'node:timers/promises'
import { newId } from '../platform/crypto.ts'
import {
  atMostRows,
  type Database,
  type Statement,
  type StepOptions,
  type Value,
} from '../platform/storage/database.ts'
import { type OnUnreadable, parseStored, throwUnreadable } from '../platform/unreadable-values.ts'
import type { Client } from './client.ts'
import type { ClientMetadata, DeliveryMode } from './metadata/client-metadata.ts'

/** A row of the table `clients`. */
export interface ClientRow {
  id: string
  origin: 'config' | 'command'
  metadata: string
  secret_hash: string | null
  secret_sealed: string | null
  delivery_mode: DeliveryMode | null
  notification_endpoint: string | null
  created_at: number
  changed_at: number
  registration_token_hash: string | null
  registration_id: string
}

export interface RegisteredClient {
  client: Client
  /** How the client was registered: by the configuration, by a command, or by itself. */
  origin: 'config' | 'command' | 'registration'
}

export type ClientStore = ReturnType<typeof createClientStore>

/** The number of clients that are read at once. */
export const clientPageSize = 500

/**
 * The registered clients. All nodes are notified of changes, under the topic `client`. A client whose stored metadata
 * cannot be parsed is reported, and treated as unknown.
 */
export function createClientStore(database: Database, onUnreadable = throwUnreadable) {
  const toRegistered = registeredWith(onUnreadable)
  return {
    async find(id: string): Promise<Client | undefined> {
      if (!couldBeAnId(id)) return undefined
      const [row] = await database.read<ClientRow>('select * from clients where id = $1', [id])
      return row && toRegistered(row)?.client
    },

    /** Resolves to a client, and how it was registered; undefined if there is no such client. */
    async findRegistered(id: string): Promise<RegisteredClient | undefined> {
      if (!couldBeAnId(id)) return undefined
      const [row] = await database.read<ClientRow>('select * from clients where id = $1', [id])
      return row && toRegistered(row)
    },

    /** Yields all clients in pages, ordered by id. */
    pages: () => pagesOf(database, toRegistered),

    /** Adds a client. Resolves to whether the client was added. It is not added if its id is taken. */
    async add(client: Client, now: number): Promise<boolean> {
      const rows = await database.step(insertClient(client, now), { announce: [{ topic: 'client', key: client.id }] })
      return rows.length > 0
    },

    /**
     * Adds or updates a client of the configuration. If `configFingerprint` equals the stored fingerprint, nothing
     * changes. So changes that the client made itself (`changeDelivery`) stay until the operator changes the
     * configuration of the client. If a client with this id had registered itself, it becomes a client of the
     * configuration. Resolves to whether the client was added or updated.
     */
    async putConfigured(client: Client, configFingerprint: string, now: number): Promise<boolean> {
      const rows = await database.step(
        insert(
          client,
          'config',
          configFingerprint,
          now,
          `on conflict (id) do update set origin = excluded.origin, config_fingerprint = excluded.config_fingerprint,
             metadata = excluded.metadata, secret_hash = excluded.secret_hash, secret_sealed = excluded.secret_sealed,
             delivery_mode = excluded.delivery_mode, notification_endpoint = excluded.notification_endpoint,
             changed_at = excluded.changed_at, registration_token_hash = null, registered_from = null
           where clients.config_fingerprint is null or clients.config_fingerprint <> excluded.config_fingerprint`,
        ),
        { announce: [{ topic: 'client', key: client.id }] },
      )
      return rows.length > 0
    },

    /**
     * Removes clients that the configuration no longer contains. Resolves to their ids.
     *
     * @param ids the ids of the clients that the configuration contains
     * @param ending returns the statements that revoke or remove all that belongs to a client
     */
    async removeConfiguredBut(ids: string[], ending: (id: string) => Statement[]): Promise<string[]> {
      const others = await database.read<{ id: string }>(
        // Clients of the configuration have no registration access token. With the condition on
        // `registration_token_hash`, an index excludes all clients that registered themselves.
        `select id from clients where registration_token_hash is null and origin = 'config'
           and id not in (select value from each($1)) order by id`,
        [JSON.stringify(ids)],
      )
      const removed: string[] = []
      for (const { id } of others) {
        const { first, options } = removal(id, ending(id), `origin = 'config'`)
        if ((await database.step(first, options)).length > 0) removed.push(id)
      }
      return removed
    },

    /**
     * Removes a client. Resolves to whether the client existed.
     *
     * @param also statements that revoke or remove all that belongs to the client
     */
    async remove(id: string, also: Statement[]): Promise<boolean> {
      const { first, options } = removal(id, also)
      return (await database.step(first, options)).length > 0
    },

    /**
     * Changes the delivery mode and the notification endpoint of a client. The new values also apply to authentication
     * requests that were accepted before. But a request that was accepted in poll mode stays in poll mode. Resolves to
     * false if the client does not exist, has been registered again with another `registrationId`, or has no delivery
     * mode.
     */
    async changeDelivery(
      { id, registrationId }: Pick<Client, 'id' | 'registrationId'>,
      mode: DeliveryMode,
      endpoint: string | undefined,
      now: number,
    ): Promise<boolean> {
      const rows = await database.step(
        {
          sql: `update clients set delivery_mode = $2, notification_endpoint = $3, changed_at = $4
                where id = $1 and delivery_mode is not null
                  and (cast($5 as text) is null or registration_id = $5) returning id`,
          values: [id, mode, endpoint ?? null, now, registrationId ?? null],
        },
        { announce: [{ topic: 'client', key: id }], rowKeys: [clientLock(id)] },
      )
      return rows.length > 0
    },
  }
}

/**
 * Yields all clients in pages. There may be a hundred thousand clients, so callers should keep only what they need of a
 * page. Between two pages, other work of this process runs.
 */
async function* pagesOf(
  database: Database,
  toRegistered: (row: ClientRow) => RegisteredClient | undefined,
): AsyncGenerator<RegisteredClient[]> {
  for (let after = ''; ; ) {
    const rows = await database.read<ClientRow>(
      `select * from clients where id > $1 order by id ${atMostRows(clientPageSize)}`,
      [after],
    )
    if (rows.length > 0) yield rows.flatMap((row) => toRegistered(row) ?? [])
    if (rows.length < clientPageSize) return
    after = rows.at(-1)!.id
    // Reads of SQLite are synchronous, so without this line no other work would run between two pages.
    await nextTurn()
  }
}

/**
 * Returns the lock key of a client. A transaction that removes the client holds the lock exclusively. A transaction
 * that accepts an authentication request of the client holds it as a shared lock. If that transaction also checks a
 * limit of the client, it holds the lock exclusively. In both cases, the removal and the acceptance run one after the
 * other. If the acceptance is first, the removal ends the accepted request. If the removal is first, the request is not
 * accepted.
 */
export const clientLock = (id: string): string => `requests by ${id}`

/**
 * SQL: the ids of the open authentication requests of the client `$1`. Each half of the union uses a partial index.
 * With one condition for both values of `status`, the finished requests of the client would be read too.
 */
export const openRequestsOfClient = `select id from backchannel_auth_requests where client_id = $1 and status = 'pending'
  union all select id from backchannel_auth_requests where client_id = $1 and status = 'approved'`

/**
 * Returns the arguments of `database.step` for the transaction that removes a client. All nodes are notified of the
 * change to the client and to its open requests, so that long polls of these requests are answered. If the client does
 * not exist or does not meet `condition`, the first statement returns no rows, and nothing is removed.
 *
 * @param also statements that revoke or remove all that belongs to the client
 * @param condition SQL: a further condition on the row of the client, with parameters from `$2`
 */
export function removal(id: string, also: Statement[], condition = 'true', values: Value[] = []) {
  const first = {
    sql: `with gone as materialized (select id from clients where id = $1 and ${condition} /* for update */)
          select open.id as request_id from gone left join (${openRequestsOfClient}) as open on true`,
    values: [id, ...values],
  }
  const options: StepOptions<{ request_id: string | null }> = {
    also: [{ sql: 'delete from clients where id = $1', values: [id] }, ...also],
    announce: (rows) => [
      { topic: 'client', key: id },
      ...rows.flatMap(({ request_id }) => (request_id === null ? [] : [{ topic: 'request', key: request_id }])),
    ],
    lockKeys: clientLock(id),
  }
  return { first, options }
}

/**
 * Whether a client can have this id. If not, the database is not asked. The id is untrusted input, and Postgres would
 * report an error for an id that contains NUL.
 */
function couldBeAnId(id: string): boolean {
  return /^[\x21-\x7e]{1,255}$/.test(id)
}

/** Returns the statement that adds a client. The statement changes nothing if the id is taken. */
export function insertClient(client: Client, now: number): Statement {
  return insert(client, 'command', null, now, 'on conflict (id) do nothing')
}

function insert(
  client: Client,
  origin: string,
  configFingerprint: string | null,
  now: number,
  onConflict: string,
): Statement {
  const { backchannel_token_delivery_mode, backchannel_client_notification_endpoint, client_secret, ...rest } =
    client.metadata
  return {
    sql: `insert into clients (id, origin, config_fingerprint, metadata, secret_hash, secret_sealed,
            delivery_mode, notification_endpoint, created_at, changed_at, registration_id)
          values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10) ${onConflict} returning id`,
    values: [
      client.id,
      origin,
      configFingerprint,
      JSON.stringify(rest),
      client.secretHash ?? null,
      client.secretSealed ?? null,
      client.deliveryMode ?? null,
      client.notificationEndpoint ?? null,
      now,
      // The `registration_id` of a new row. An existing row keeps its `registration_id`.
      newId(now),
    ],
  }
}

/**
 * Returns a function that converts a row of the table to a client, or to undefined if the stored metadata cannot be
 * parsed.
 */
function registeredWith(onUnreadable: OnUnreadable) {
  return (row: ClientRow): RegisteredClient | undefined => {
    const metadata = parseStored<ClientMetadata>(row.metadata, `clients/${row.id}`, onUnreadable)
    if (metadata === undefined) return undefined
    const origin = row.registration_token_hash === null ? row.origin : 'registration'
    return { client: toClient(row, metadata), origin }
  }
}

function toClient(row: ClientRow, metadata: ClientMetadata): Client {
  if (row.delivery_mode) metadata.backchannel_token_delivery_mode = row.delivery_mode
  if (row.notification_endpoint) metadata.backchannel_client_notification_endpoint = row.notification_endpoint
  return {
    id: row.id,
    registrationId: row.registration_id,
    metadata,
    deliveryMode: row.delivery_mode ?? undefined,
    notificationEndpoint: row.notification_endpoint ?? undefined,
    secretHash: row.secret_hash ?? undefined,
    secretSealed: row.secret_sealed ?? undefined,
    ...(row.registration_token_hash !== null && { registeredItself: true }),
  }
}
