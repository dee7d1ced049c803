/** Changes the delivery mode of a request after its client has changed to another delivery mode. */
import type { DeliveryMode } from '../../client/metadata/client-metadata.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import type { Database, Statement } from '../../platform/storage/database.ts'
import { signOutLock } from '../../user/token-validity-store.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
import { announced } from './request-move-store.ts'

/**
 * A push with tokens that the client has not confirmed. `mode` and `endpoint` define how the client gets the result
 * instead.
 */
export interface UnconfirmedPush {
  /** The delivery mode and the notification endpoint that the client has now. */
  mode: Exclude<DeliveryMode, 'push'>
  endpoint?: string | undefined
  /** The notification that contains the tokens. */
  notification: Pick<OutboxMessage, 'id' | 'sealed'>
  now: number
}

/** Returns the functions that change the delivery mode of a request. */
export function modesIn(database: Database) {
  return {
    /**
     * Changes the delivery mode of the request to poll. After that, no ping or push can be composed for the request.
     */
    async becomePoll(id: string): Promise<void> {
      await database.step({
        sql: `update backchannel_auth_requests set delivery_mode = 'poll', notification_endpoint = null,
                call_back_sealed = null
              where id = $1 returning id`,
        values: [id],
      })
    },

    /**
     * Changes the status of a redeemed request back to approved, and the delivery mode of the request to `mode`. The
     * statements `facts` remove the tokens in the same transaction. Resolves to whether the request was changed. The
     * request is changed only under these conditions:
     * - Its deadline has not passed.
     * - The notification still contains the tokens, and was not delivered.
     * - The tokens were not revoked.
     */
    async takeBack(
      { id, userId }: Pick<AuthenticationRequest, 'id' | 'userId'>,
      { mode, endpoint, notification, now }: UnconfirmedPush,
      facts: Statement[],
    ): Promise<boolean> {
      const rows = await database.step(
        {
          sql: takingBack,
          values: [id, mode, endpoint ?? null, now, notification.id, notification.sealed ?? null],
        },
        // With the first lock, no revocation by the user runs at the same time. With the second lock, no transaction
        // that parks the notification or erases its content runs at the same time.
        { also: facts, announce: announced(id), lockKeys: [signOutLock(userId), pushLock(id)] },
      )
      return rows.length > 0
    },
  }
}

/** Returns the lock key of the transactions that revoke the tokens of a push. */
export const pushLock = (requestId: string): string => `push of ${requestId}`

const takingBack = `
  update backchannel_auth_requests
  set status = 'approved', redeemed_at = null, delivery_mode = $2, notification_endpoint = $3
  where id = $1 and status = 'redeemed' and expires_at > $4
    and exists (select 1 from notifications where id = $5 and sealed = $6 and state <> 'delivered')
    and exists (select 1 from oidc_models where request_id = $1)
  returning id`
