/**
 * Sends the notification of an approved, denied or expired request to its client. The current delivery mode and
 * endpoint of the client are used, even if they were different when the request was made. The reason is that tokens
 * must not be sent to an endpoint that the client has removed from its registration.
 */

import type { Client } from '../../client/client.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { Send } from '../../outbox/delivery.ts'
import type { OutboxMessage, Outcome } from '../../outbox/notification.ts'
import { contentOf, holdsTokens, type NotificationContent, sealContent } from './notification-for.ts'
import { sendPing } from './ping.ts'
import { createPush, type PushNeeds } from './push.ts'
import type { TakeBack } from './take-back.ts'

export interface NotifyNeeds extends PushNeeds {
  clients: Pick<ClientStore, 'find'>
  takeBack: TakeBack
}

/** Returns the sender of pings and pushes for the outbox. */
export function createNotifyClient(needs: NotifyNeeds): Send {
  const { clients, outbox, vault } = needs
  const push = createPush(needs)

  return async (message, signal, onCall) => {
    const client = await clients.find(message.receiver)
    if (client?.deliveryMode === undefined) {
      return { kind: 'refused', words: 'the client is not registered for backchannel authentication any more' }
    }
    const content = contentOf(message, vault)
    if (content === undefined) return { kind: 'refused', words: 'the content cannot be decrypted' }
    if (client.deliveryMode === 'poll') return leaveToPoll(message, content, needs)
    if (client.deliveryMode === 'ping' && content.outcome === 'expired') {
      return { kind: 'delivered', words: 'not sent: a ping client is not notified of an expiry' }
    }
    const addressed = { ...message, kind: client.deliveryMode, address: client.notificationEndpoint }
    if (message.address !== addressed.address || message.kind !== addressed.kind) await outbox.readdress(addressed)
    return client.deliveryMode === 'push'
      ? push(addressed, content, signal, onCall)
      : pingInstead({ message: addressed, content, client, signal, onCall }, needs)
  }
}

/**
 * Called if the current delivery mode of the client is poll. Changes the delivery mode of the request to poll, and
 * sends no notification. If tokens were already issued for a push, they are revoked and the request becomes approved
 * again.
 */
async function leaveToPoll(
  message: OutboxMessage,
  content: NotificationContent,
  { requests, takeBack, clock }: NotifyNeeds,
): Promise<Outcome> {
  if (!holdsTokens(content)) await requests.becomePoll(message.subject)
  else if (!(await takeBack(message, { mode: 'poll', now: clock.now() }))) return uncollectable
  return { kind: 'delivered', words: 'not sent: the client polls now' }
}

/**
 * Sends a ping. If tokens were already issued for a push, they are first revoked and the request becomes approved
 * again. So the client can get new tokens at the token endpoint.
 */
async function pingInstead(
  { message, content, client, signal, onCall }: PingTask,
  { takeBack, vault, clock, caller }: NotifyNeeds,
): Promise<Outcome> {
  const now = clock.now()
  if (holdsTokens(content)) {
    const replaced = sealContent(message.id, { ...content, body: undefined }, vault)
    const taken = await takeBack(message, { mode: 'ping', endpoint: client.notificationEndpoint, replaced, now })
    if (!taken) return uncollectable
  }
  onCall()
  return sendPing(message, content, { caller, now, signal })
}

interface PingTask {
  message: OutboxMessage
  content: NotificationContent
  client: Client
  signal: AbortSignal
  onCall: () => void
}

const uncollectable: Outcome = { kind: 'refused', words: 'the client does not take pushes any more' }
