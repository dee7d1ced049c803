import { enqueueForOthers } from '../../outbox/enqueue.ts'
import { createOutboxStore } from '../../outbox/outbox-store.ts'
import { fingerprint, idsBefore } from '../../platform/crypto.ts'
import { pruneByCursor } from '../../platform/storage/cursor-prune.ts'
import { atMostRows, type Database } from '../../platform/storage/database.ts'
import { requestsFoundIn, requestsListedIn } from './request-lookup-store.ts'
import { acceptingIn, type MoveNeeds, settlingIn } from './request-move-store.ts'
import { pollsIn } from './request-poll-store.ts'

export type RequestStore = ReturnType<typeof createRequestStore>

/**
 * The authentication requests. Each move is one conditional statement: of two that happen at once, one finds its
 * condition gone. Moves are announced under the topic `request`, and by user under `user_requests` where something else
 * waits for the user from then on. Moves of the same kind that come together are carried out together.
 *
 * @param needs not needed by who only reads; notifications wait for a server unless told
 */
export function createRequestStore(database: Database, needs: Partial<MoveNeeds> = {}) {
  const moving = { userKey: fingerprint, enqueue: enqueueForOthers(createOutboxStore(database)), ...needs }
  return {
    ...acceptingIn(database, moving),
    ...settlingIn(database, moving),
    ...requestsFoundIn(database),
    ...requestsListedIn(database),
    ...pollsIn(database),
    /**
     * Removes what was finished before `before`, at most so many. A request stays as long as something lives that came
     * out of it: it says whose that is, to take it back. Ids grow with time, so nothing younger is even looked at.
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
