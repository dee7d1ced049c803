/**
 * Telling a device service of the operator's own: one signed call for each request and each change of an account. See
 * docs/guides/device-channels.md.
 */
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
  const standardKey = standardKeyOf(secret)
  return {
    kind: 'device_webhook',
    toProgram: true,
    // Whom the service reaches, only the service knows.
    reaches: () => true,
    send: ({ id, request }, signal) => call(id, { event: 'request.pending', ...request }, signal),
    sendAccount: ({ change }, signal) => call(change.id, { event: 'account.changed', ...change }, signal),
  }

  /** @param id the same when it is sent again: receivers recognise repeats by it */
  function call(id: string, said: object, signal: AbortSignal): Promise<Outcome> {
    const body = JSON.stringify(said)
    const seconds = Math.floor(clock.now() / 1000)
    const headers = {
      'content-type': 'application/json',
      'doorbell-signature': signature(secret, seconds, body),
      'webhook-id': id,
      'webhook-timestamp': String(seconds),
      'webhook-signature': standardSignature(standardKey, id, seconds, body),
    }
    return post({ url, headers, body }, caller, signal)
  }
}

/** The time is signed too, so that whoever has overheard a call cannot repeat it later as a new one. */
export function signature(secret: string, seconds: number, body: string): string {
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`
}

/** The signature of Standard Webhooks 1.0.0, which receivers in many languages have a library for. */
function standardSignature(key: Buffer, id: string, seconds: number, body: string): string {
  return `v1,${createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')}`
}

/**
 * The key of Standard Webhooks. A secret in that standard's form, `whsec_` and base64, stands for the bytes that are encoded
 * in it; any other text is a key as it is, and `whsec_` with its base64 is what a receiver configures.
 */
function standardKeyOf(secret: string): Buffer {
  const encoded = /^whsec_(.+)$/.exec(secret)?.[1]
  const decoded = Buffer.from(encoded ?? '', 'base64')
  return encoded !== undefined && decoded.toString('base64') === encoded ? decoded : Buffer.from(secret)
}
