import { idsBefore, type Vault } from '../../platform/crypto.ts'
import { atMostRows, type Database, type Statement } from '../../platform/storage/database.ts'

export type SignedRequestStore = ReturnType<typeof createSignedRequestStore>

/** Where a signed request lies sealed, so that it opens nowhere else. */
const place = (requestId: string) => `signed_requests/${requestId}`

/** Signed authentication requests as they were received (FC-14). */
export function createSignedRequestStore(database: Database, vault: Vault) {
  return {
    /** To be written in the step that keeps the request. */
    keep(requestId: string, jwt: string, receivedAt: number): Statement {
      return {
        sql: `insert into signed_requests (request_id, sealed, received_at)
              select request_id, sealed, received_at
              from rows($1) as kept (request_id text, sealed text, received_at bigint)`,
        rows: [{ request_id: requestId, sealed: vault.seal(jwt, place(requestId)), received_at: receivedAt }],
      }
    },

    /** The JWT letter by letter, if the request was a signed one. */
    async find(requestId: string): Promise<string | undefined> {
      const [row] = await database.read<{ sealed: string }>(
        'select sealed from signed_requests where request_id = $1',
        [requestId],
      )
      return row && vault.open(row.sealed, place(requestId))
    },

    /** Removes those of requests received before `before`, at most so many. */
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
