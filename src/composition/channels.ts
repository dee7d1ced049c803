/** Builds the configured channels that notify users' devices, and the parts that these channels need. */
import {
  accountKindsOf,
  createAccountNoticeSenders,
  createNoticesOfChange,
} from '../authentication-device/channels/account-notice.ts'
import { type Channel, createNoticeSenders } from '../authentication-device/channels/device-notice.ts'
import { createDeviceWebhook } from '../authentication-device/channels/device-webhook.ts'
import { createEmailChannel } from '../authentication-device/channels/email.ts'
import { createNotifyHook, hasNotify } from '../authentication-device/channels/notify-hook.ts'
import { createPushSubscriptionStore } from '../authentication-device/channels/push-subscription-store.ts'
import { createPushSubscriptions } from '../authentication-device/channels/push-subscriptions.ts'
import { createServerKeyStore } from '../authentication-device/channels/server-key-store.ts'
import { loadVapidKeys } from '../authentication-device/channels/vapid-keys.ts'
import { createWebPushChannel } from '../authentication-device/channels/web-push.ts'
import { createNumberMatching, noNumberMatching } from '../authentication-device/number-matching.ts'
import type { Config } from '../config/config.ts'
import { createWire } from '../demo/wire.ts'
import { createMailbox } from '../development/mailbox.ts'
import type { Clients } from './clients.ts'
import type { Platform } from './platform.ts'
import type { Requests } from './requests.ts'
import type { Users } from './users.ts'

export type Channels = Awaited<ReturnType<typeof composeChannels>>

export async function composeChannels(platform: Platform, { clients }: Clients, { users }: Users, stored: Requests) {
  const { config, database, vault, texts, clock, audit } = platform
  const demoWire = config.development && config.demo ? createWire() : undefined
  const mailbox = config.development ? createMailbox({ texts, clock, onMail: demoWire?.showMail }) : undefined
  const subscriptions = createPushSubscriptions({ store: createPushSubscriptionStore(database), vault, clock })
  const vapid = config.webPush && (await loadVapidKeys({ keys: createServerKeyStore(database), vault, clock }))
  const channels = [
    mailbox,
    emailOf(platform),
    vapid && webPushOf(platform, vapid, subscriptions),
    config.deviceWebhook && createDeviceWebhook({ ...config.deviceWebhook, caller: platform.toClients, clock }),
    hasNotify(users) && createNotifyHook({ users, timeout: timeoutMsOf(config), log: platform.log }),
  ].filter((channel): channel is Channel => typeof channel === 'object')
  const numbers = config.requests.numberMatching ? createNumberMatching(vault.key('number matching')) : noNumberMatching
  const whereToCheck = config.issuer + (config.login.issuer === 'self' ? '/sessions' : '/passkeys')
  const timeout = timeoutMsOf(config)
  const { issuer } = config
  const noticeNeeds = { findRequest: stored.requests.find, clients, users, timeout, numbers, issuer, audit }
  return {
    channels,
    /** The functions that send notifications to devices, by kind of notification. */
    senders: {
      ...createNoticeSenders(channels, noticeNeeds),
      ...createAccountNoticeSenders(channels, { users, timeout, link: whereToCheck, vault }),
    },
    noticesOfChange: createNoticesOfChange({ kinds: accountKindsOf(config), vault, clock }),
    numbers,
    subscriptions,
    pushKey: vapid?.publicKey,
    mailbox,
    demoWire,
    async close(): Promise<void> {
      await Promise.all(channels.map((channel) => channel.close?.()))
    },
  }
}

/** Returns how long an attempt to send a notification may take, in milliseconds. */
export const timeoutMsOf = ({ notifications }: Config) => notifications.timeout * 1000

function emailOf({ config, texts }: Platform) {
  return (
    config.email && createEmailChannel({ ...config.email, issuer: config.issuer, texts, timeout: timeoutMsOf(config) })
  )
}

type VapidKeys = Awaited<ReturnType<typeof loadVapidKeys>>
type Subscriptions = ReturnType<typeof createPushSubscriptions>

function webPushOf({ config, texts, clock, openCaller }: Platform, keys: VapidKeys, subscriptions: Subscriptions) {
  // The addresses of push services come from users' browsers, so they are not trusted. Outside development, this HTTP
  // client makes no calls to private networks, even if the configuration allows such calls to clients.
  const caller = openCaller({ allowPrivateNetworks: config.development })
  return createWebPushChannel({ ...config.webPush!, keys, subscriptions, texts, caller, clock })
}
