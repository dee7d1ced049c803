/** Sends a ping (CIBA Core §10.2): it says that a result is available, but does not contain the result. */

import type { Send } from '../../outbox/delivery.ts'
import { contentAad } from '../../outbox/notification.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { GuardedCaller } from '../../platform/http/outgoing.ts'
import type { CallBack } from '../authentication-request/authentication-request.ts'
import { callBack } from './notification-endpoint.ts'

export type PingContent = CallBack

/** Returns the sender of pings for the outbox. */
export function createPing({ caller, vault }: { caller: GuardedCaller; vault: Vault }): Send {
  return (message, signal) => {
    const content = JSON.parse(vault.open(message.sealed!, contentAad(message.id))) as PingContent
    const body = JSON.stringify({ auth_req_id: content.authReqId })
    return callBack({ address: message.address!, bearer: content.notificationToken, body }, caller, signal)
  }
}
