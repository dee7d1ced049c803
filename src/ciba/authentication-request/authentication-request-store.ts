import { enqueueForOthers } from '../../outbox/enqueue.ts'
import { createOutboxStore } from '../../outbox/outbox-store.ts'
import { fingerprint, idsBefore } from '../../platform/crypto.ts'
import { pruneByCursor } from '../../platform/storage/cursor-prune.ts'
import { atMostRows, type Database } from '../../platform/storage/database.ts'
import { requestsFoundIn, requestsListedIn } from './request-lookup-store.ts'
import { modesIn } from './request-mode-store.ts'
import { acceptingIn, type MoveNeeds, settlingIn } from './request-move-store.ts'
import { type PollStoreNeeds, pollsIn } from './request-poll-store.ts'

export type RequestStore = ReturnType<typeof createRequestStore>

/**
 * Stores the authentication requests. Each transition of a request from one status to another is one conditional SQL
 * statement. If two transitions of the same request run at the same time, only the first finds its condition true.
 * Concurrent transitions of different requests are executed in one batch if their SQL is the same. Each transition is
 * announced to all nodes under the topic `request`. A transition that changes which requests wait for a decision of a
 * user is also announced under the topic `user_requests`, with the key of the user (`user-announcement.ts`).
 *
 * @param needs not required if the requests are only read. Without `needs.enqueue`, this process does not send the
 *   notifications that it adds to the outbox. A server process sends them later
 */
export function createRequestStore(database: Database, needs: Partial<MoveNeeds> & PollStoreNeeds = {}) {
  const moving = { userKey: fingerprint, enqueue: enqueueForOthers(createOutboxStore(database)), ...needs }
  return {
    ...acceptingIn(database, moving),
    ...settlingIn(database, moving),
    ...requestsFoundIn(database, needs.onUnreadable),
    ...requestsListedIn(database, needs.onUnreadable),
    ...pollsIn(database, needs),
    ...modesIn(database),
    /**
     * Removes at most `atMost` denied, expired and redeemed requests whose `settled_at` is before `before`. A request
     * is kept while a token that was issued for it exists, because the user can revoke the token only while the row
     * exists. Ids grow with time, so the condition on the id excludes newer rows without reading them.
     */
    forgetFinished: pruneByCursor({
      async next(after, before, atMost) {
        const rows = await database.read<{ id: string }>(
          `select id from backchannel_auth_requests
           where id > $1 and id < $2 and status in ('denied', 'expired', 'redeemed') and settled_at < $3
           order by id ${atMostRows(atMost)}`,
          [after, idsBefore(before), before],
        )
        return rows.map(({ id }) => id)
      },
      async remove(ids) {
        const rows = await database.step({
          sql: `with old as materialized (
                  select id from backchannel_auth_requests request
                  where id in (select value from each($1)) and not exists (
                      select 1 from oidc_models issuing join oidc_models issued on issued.grant_hash = issuing.id_hash
                      where issuing.request_id = request.id)
                  order by id /* for update skip locked */
                )
                delete from backchannel_auth_requests where id in (select id from old) returning id`,
          values: [JSON.stringify(ids)],
        })
        return rows.length
      },
    }),
  }
}
