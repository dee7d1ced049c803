import { idsBefore, type Vault } from '../../platform/crypto.ts'
import { atMostRows, type Database, type Statement } from '../../platform/storage/database.ts'

export type SignedRequestStore = ReturnType<typeof createSignedRequestStore>

/**
 * Returns the additional authenticated data (AAD) for the encryption of a signed request. The AAD contains the request
 * id, so a signed request that is copied to another row cannot be decrypted.
 */
const aad = (requestId: string) => `signed_requests/${requestId}`

/** Stores signed authentication requests as received, encrypted. */
export function createSignedRequestStore(database: Database, vault: Vault) {
  return {
    /**
     * Returns the statement that stores a signed request (the JWT), for the transaction that stores the authentication
     * request.
     */
    keep(requestId: string, jwt: string, receivedAt: number): Statement {
      return {
        sql: `insert into signed_requests (request_id, sealed, received_at)
              select request_id, sealed, received_at
              from rows($1) as kept (request_id text, sealed text, received_at bigint)`,
        rows: [{ request_id: requestId, sealed: vault.seal(jwt, aad(requestId)), received_at: receivedAt }],
      }
    },

    /** Resolves to the signed request (the JWT) as received, or undefined if none is stored. */
    async find(requestId: string): Promise<string | undefined> {
      const [row] = await database.read<{ sealed: string }>(
        'select sealed from signed_requests where request_id = $1',
        [requestId],
      )
      return row && vault.open(row.sealed, aad(requestId))
    },

    /** Removes at most `atMost` signed requests that were received before `before`. @returns how many were removed */
    async forget(before: number, atMost: number): Promise<number> {
      const rows = await database.step({
        sql: `with old as materialized (
                select request_id from signed_requests where request_id < $1
                order by request_id ${atMostRows(atMost)} /* for update skip locked */
              )
              delete from signed_requests where request_id in (select request_id from old) returning request_id`,
        values: [idsBefore(before)],
      })
      return rows.length
    },
  }
}
