/** The browsers that users want to be told on. */
import { z } from 'zod'
import type { Clock } from '../../platform/clock.ts'
import { fingerprint, newId, type Vault } from '../../platform/crypto.ts'
import type { PushSubscriptionStore } from './push-subscription-store.ts'

/** As the browser's `PushSubscription` becomes JSON. */
export interface PushSubscription {
  endpoint: string
  keys: { p256dh: string; auth: string }
}

export interface OwnSubscription extends PushSubscription {
  id: string
}

export type PushSubscriptions = ReturnType<typeof createPushSubscriptions>

/** Devices of one user: each request is sent to all of them. */
const mostOfAUser = 20

export function createPushSubscriptions(needs: { store: PushSubscriptionStore; vault: Vault; clock: Clock }) {
  const { store, vault, clock } = needs
  return {
    /** This browser, and whoever uses it now. */
    async add(userId: string, { endpoint, keys: { p256dh, auth } }: PushSubscription): Promise<void> {
      const endpointHash = fingerprint(endpoint)
      const now = clock.now()
      const sealed = vault.seal(JSON.stringify({ endpoint, keys: { p256dh, auth } }), placeOf(userId, endpointHash))
      await store.add({ id: newId(now), userId, endpointHash, sealed }, now, mostOfAUser)
    },

    async of(userId: string): Promise<OwnSubscription[]> {
      const kept = await store.listForUser(userId)
      return kept.map(({ id, endpointHash, sealed }) => {
        const opened = JSON.parse(vault.open(sealed, placeOf(userId, endpointHash))) as PushSubscription
        return { id, ...opened }
      })
    },

    async has(userId: string): Promise<boolean> {
      return (await store.listForUser(userId)).length > 0
    },

    used: (id: string): Promise<void> => store.used(id, clock.now()),

    /**
     * Whether this user is told on the browser they use now, by the SHA-256 of its endpoint. Another user's subscription
     * there ends: it is their browser no more.
     */
    claim: (userId: string, endpointHash: string) => store.claim(userId, endpointHash),

    /** Answers whether there was one. */
    remove: (userId: string, endpoint: string): Promise<boolean> => store.remove(userId, fingerprint(endpoint)),
  }
}

/** With the user in it: a row that is given to somebody else by hand does not open. */
const placeOf = (userId: string, endpointHash: string) => `push_subscriptions/${userId}/${endpointHash}`

const base64url = (bytes: number) =>
  z.string().refine((text) => /^[\w-]+={0,2}$/.test(text) && Buffer.from(text, 'base64url').length === bytes)

const schema = z.object({
  endpoint: z
    .string()
    .max(2048)
    .refine((text) => /^https?:\/\//.test(text) && URL.canParse(text)),
  keys: z.object({
    // An uncompressed point of P-256.
    p256dh: base64url(65),
    auth: base64url(16),
  }),
})

/** What a browser wrote as JSON, if it is a subscription. */
export function readPushSubscription(text: string): PushSubscription | undefined {
  return schema.safeParse(parseJson(text)).data
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
