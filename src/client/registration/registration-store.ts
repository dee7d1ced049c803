import { fingerprint } from '../../platform/crypto.ts'
import type { Database, SingleStatement, Statement } from '../../platform/storage/database.ts'
import { isNotOver } from '../../platform/storage/stored-period.ts'
import type { Client } from '../client.ts'
import { clientLock, insertClient, removal } from '../client-store.ts'
import { comparedName, signsIn, skeletonOf } from '../metadata/similar-names.ts'

export type RegistrationStore = ReturnType<typeof createRegistrationStore>

/** The period for which registrations from one address are counted, in milliseconds. */
const hourMs = 3600_000

const isRecent = isNotOver({ begin: 'created_at', length: hourMs }, '$2')

/** Clients that registered themselves. All nodes are notified of changes, under the topic `client`. */
export function createRegistrationStore(database: Database) {
  const announce = (id: string) => [{ topic: 'client', key: id }]
  const roomFor = (from: string, perHour: number, now: number) => ({
    sql: `select 1 as room where (select count(*) from clients where registered_from = $1 and ${isRecent}) < $3`,
    values: [from, now, perHour],
  })

  return {
    /**
     * Adds a client that sent an initial access token. `permission` is the statement that counts one use of the token
     * in the same transaction.
     *
     * @returns whether the client was added. It is not added if the token has expired or has no use left
     */
    async addPermitted(client: Client, registrationToken: string, permission: SingleStatement, now: number) {
      const also = [insertClient(client, now), mark(client, registrationToken, undefined)]
      // The first value of the statement is the hash of the token.
      const rowKeys = [`initial access token ${permission.values[0]}`]
      return (await database.step(permission, { also, announce: announce(client.id), rowKeys })).length > 0
    },

    /**
     * Adds a client that sent no initial access token. Resolves to whether the client was added. It is not added if
     * `perHour` clients were registered from the same address within the last hour.
     *
     * @param from keyed hash of the IPv4 address or the IPv6 /64
     */
    async addOpen(client: Client, registrationToken: string, from: string, perHour: number, now: number) {
      const kept = [insertClient(client, now), mark(client, registrationToken, from)]
      // Without the lock in `lockKeys`, two simultaneous registrations would not count each other, and could exceed the
      // limit.
      const rows = await database.step(roomFor(from, perHour, now), {
        also: kept,
        announce: announce(client.id),
        lockKeys: `registered ${from}`,
      })
      return rows.length > 0
    },

    /**
     * Whether one more client may be registered from this address now. Called before the metadata is read, so that a
     * call beyond the limit is refused before any work is done for it.
     */
    async hasCapacity(from: string, perHour: number, now: number): Promise<boolean> {
      const { sql, values } = roomFor(from, perHour, now)
      return (await database.read(sql, values)).length > 0
    },

    /** Whether `registrationToken` is the registration access token of the client. */
    async isLookedAfterBy(id: string, registrationToken: string): Promise<boolean> {
      const rows = await database.read('select id from clients where id = $1 and registration_token_hash = $2', [
        id,
        fingerprint(registrationToken),
      ])
      return rows.length > 0
    },

    /**
     * Replaces the metadata and the registration access token. Resolves to false if `registrationToken` is not the
     * client's token any more, because another update has replaced it.
     */
    async replace(client: Client, registrationToken: string, next: string, now: number): Promise<boolean> {
      const {
        backchannel_token_delivery_mode: _,
        backchannel_client_notification_endpoint: __,
        ...metadata
      } = client.metadata
      const rows = await database.step(
        {
          sql: `update clients set metadata = $3, secret_hash = $4, secret_sealed = $5, delivery_mode = $6,
                  notification_endpoint = $7, registration_token_hash = $8, changed_at = $9,
                  compared_name = $10, name_with_signs = $11
                where id = $1 and registration_token_hash = $2 returning id`,
          values: [
            client.id,
            fingerprint(registrationToken),
            JSON.stringify(metadata),
            client.secretHash ?? null,
            client.secretSealed ?? null,
            client.deliveryMode ?? null,
            client.notificationEndpoint ?? null,
            fingerprint(next),
            now,
            ...namesOf(client),
          ],
        },
        { announce: announce(client.id), rowKeys: [clientLock(client.id)] },
      )
      return rows.length > 0
    },

    /**
     * Removes a client. Resolves to false if `registrationToken` is not the client's token.
     *
     * @param also statements that revoke or remove all that belongs to the client
     */
    async remove(id: string, registrationToken: string, also: Statement[]): Promise<boolean> {
      const ofToken = [fingerprint(registrationToken)]
      const { first, options } = removal(id, also, 'registration_token_hash = $2', ofToken)
      return (await database.step(first, options)).length > 0
    },
  }
}

function mark(client: Client, registrationToken: string, from: string | undefined): Statement {
  return {
    sql: `update clients set registration_token_hash = $2, registered_from = $3, compared_name = $4, name_with_signs = $5
          where id = $1`,
    values: [client.id, fingerprint(registrationToken), from ?? null, ...namesOf(client)],
  }
}

/** Returns the values of `compared_name` and `name_with_signs`. */
function namesOf({ metadata: { client_name = '' } }: Client): [string | null, string | null] {
  const skeleton = skeletonOf(client_name)
  return [comparedName(client_name) ?? null, signsIn(skeleton) > 0 ? skeleton : null]
}
