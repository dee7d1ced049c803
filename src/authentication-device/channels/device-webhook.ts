/**
 * Notifies the operator's device service by HTTP: one signed call for each authentication request, and one for each
 * change of an account. See docs/guides/device-channels.md.
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
    // This server does not know which users the device service reaches, so it sends the messages for all users.
    reaches: () => true,
    send: ({ id, request }, signal) => call(id, { event: 'request.pending', ...request }, signal),
    sendAccount: ({ change }, signal) => call(change.id, { event: 'account.changed', ...change }, signal),
  }

  /** @param id the same at each retry, so that receivers can recognise repeated calls */
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

/**
 * Returns the signature of a call. The signature covers the time, so that a receiver can refuse a recorded call that is
 * sent again later.
 */
export function signature(secret: string, seconds: number, body: string): string {
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`
}

/** Returns the signature of Standard Webhooks 1.0.0, for which libraries exist in many programming languages. */
function standardSignature(key: Buffer, id: string, seconds: number, body: string): string {
  return `v1,${createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64')}`
}

/**
 * Returns the key of Standard Webhooks. A secret in the format of this standard, `whsec_` and base64, is decoded. Any
 * other secret is used unchanged. The receiver of such a secret has to configure its library with `whsec_` followed by
 * the base64 of the secret.
 */
function standardKeyOf(secret: string): Buffer {
  const encoded = /^whsec_(.+)$/.exec(secret)?.[1]
  const decoded = Buffer.from(encoded ?? '', 'base64')
  return encoded !== undefined && decoded.toString('base64') === encoded ? decoded : Buffer.from(secret)
}
