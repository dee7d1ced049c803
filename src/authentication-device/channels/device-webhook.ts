/** Telling a device service of the operator's own: one signed call for each request and each change of an account. See docs/device-channels.md. */
import { createHmac } from 'node:crypto'
import { post } from '../../ciba/client-notification/notification-endpoint.ts'
import type { Outcome } from '../../outbox/notification.ts'
import type { Clock } from '../../platform/clock.ts'
import type { GuardedCaller } from '../../platform/http/outgoing.ts'
import type { Channel } from './device-notice.ts'

export interface DeviceWebhookNeeds {
  url: string
  secret: string
  caller: GuardedCaller
  clock: Clock
}

export function createDeviceWebhook({ url, secret, caller, clock }: DeviceWebhookNeeds): Channel {
  return {
    kind: 'device_webhook',
    toProgram: true,
    // Whom the service reaches, only the service knows.
    reaches: () => true,
    send: ({ request }, signal) => call({ event: 'request.pending', ...request }, signal),
    sendAccount: ({ change }, signal) => call({ event: 'account.changed', ...change }, signal),
  }

  function call(said: object, signal: AbortSignal): Promise<Outcome> {
    const body = JSON.stringify(said)
    const headers = {
      'content-type': 'application/json',
      'doorbell-signature': signature(secret, Math.floor(clock.now() / 1000), body),
    }
    return post({ url, headers, body }, caller, signal)
  }
}

/** The time is signed too, so that whoever has overheard a call cannot repeat it later as a new one. */
export function signature(secret: string, seconds: number, body: string): string {
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`
}
