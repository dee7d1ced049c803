/** Users' push subscriptions: the browsers in which users want to be notified. */
import { z } from 'zod'
import type { Clock } from '../../platform/clock.ts'
import { fingerprint, newId, type Vault } from '../../platform/crypto.ts'
import type { PushSubscriptionStore } from './push-subscription-store.ts'

/** The JSON form of the browser's `PushSubscription`. */
export interface PushSubscription {
  endpoint: string
  keys: { p256dh: string; auth: string }
}

/** A stored subscription, decrypted. */
export interface OwnSubscription extends PushSubscription {
  id: string
}

export type PushSubscriptions = ReturnType<typeof createPushSubscriptions>

/**
 * Maximum number of subscriptions of one user. There is a limit because each message to a user is sent to all
 * subscriptions of the user.
 */
const mostOfAUser = 20

/**
 * Number of refused messages in succession after which a subscription is removed. A single refusal may have a temporary
 * cause, such as a wrong clock or a fault of the push service.
 */
const mostRefusals = 3

export function createPushSubscriptions(needs: { store: PushSubscriptionStore; vault: Vault; clock: Clock }) {
  const { store, vault, clock } = needs
  return {
    /**
     * Subscribes a browser for this user. A subscription of another user in the same browser is replaced. Resolves to
     * whether the subscription was added. No subscription is added if the access token with the hash `tokenHash` is not
     * valid any more.
     *
     * @param replacedHash the SHA-256 of the endpoint that the browser had before. The user's subscription with this
     *   endpoint is removed in the same step
     */
    async add(
      userId: string,
      { endpoint, keys: { p256dh, auth } }: PushSubscription,
      tokenHash?: string,
      replacedHash?: string,
    ): Promise<boolean> {
      const endpointHash = fingerprint(endpoint)
      const now = clock.now()
      const sealed = vault.seal(JSON.stringify({ endpoint, keys: { p256dh, auth } }), aadOf(userId, endpointHash))
      const kept = { id: newId(now), userId, endpointHash, sealed }
      return store.add(kept, now, mostOfAUser, tokenHash, replacedHash)
    },

    async of(userId: string): Promise<OwnSubscription[]> {
      const kept = await store.listForUser(userId)
      return kept.flatMap(({ id, endpointHash, sealed }) => {
        const opened = vault.openJson<PushSubscription>(sealed, aadOf(userId, endpointHash))
        return opened === undefined ? [] : [{ id, ...opened }]
      })
    },

    async has(userId: string): Promise<boolean> {
      return (await store.listForUser(userId)).length > 0
    },

    used: (id: string): Promise<void> => store.used(id, clock.now()),

    /**
     * Counts a message that the push service has refused. After `mostRefusals` such messages in succession, the
     * subscription is removed.
     */
    refused: (id: string): Promise<void> => store.refused(id, mostRefusals),

    /**
     * Removes another user's subscription in the browser that this user uses now. `endpointHash` is the SHA-256 of the
     * endpoint of the browser's subscription. Resolves to whether this user is subscribed in this browser, and whether
     * another user's subscription was removed.
     */
    claim: (userId: string, endpointHash: string, tokenHash?: string) => store.claim(userId, endpointHash, tokenHash),

    /**
     * Removes a subscription. Resolves to whether the user had this subscription, or to undefined if the access token
     * is not valid any more.
     */
    remove: (userId: string, endpoint: string, tokenHash?: string): Promise<boolean | undefined> =>
      store.remove(userId, fingerprint(endpoint), tokenHash),
  }
}

/**
 * Returns the additional authenticated data of a subscription. The data contains the user id, so that a row that is
 * assigned to another user in the database cannot be decrypted.
 */
const aadOf = (userId: string, endpointHash: string) => `push_subscriptions/${userId}/${endpointHash}`

const base64url = (bytes: number) =>
  z.string().refine((text) => /^[\w-]+={0,2}$/.test(text) && Buffer.from(text, 'base64url').length === bytes)

const schema = z.object({
  endpoint: z
    .string()
    .max(2048)
    .refine((text) => /^https?:\/\//.test(text) && URL.canParse(text)),
  keys: z.object({
    // An uncompressed P-256 point (RFC 8291 §3.1).
    p256dh: base64url(65),
    auth: base64url(16),
  }),
})

/** Parses a browser's JSON text. Returns undefined if it is not a valid subscription. */
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
