/** A user's push subscriptions in the device API. */
import type { FastifyInstance } from 'fastify'
import { fingerprint } from '../../platform/crypto.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { type PushSubscriptions, readPushSubscription } from '../channels/push-subscriptions.ts'
import { type IdentifyCaller, sessionEnded } from './device-caller.ts'
import { userRoute } from './user-route.ts'

export interface PushSubscriptionNeeds {
  identifyCaller: IdentifyCaller
  subscriptions: Pick<PushSubscriptions, 'add' | 'remove' | 'claim'>
}

export function pushSubscriptionEndpoint(
  app: FastifyInstance,
  path: string,
  { identifyCaller, subscriptions }: PushSubscriptionNeeds,
): void {
  userRoute(app, path, identifyCaller, {
    async POST({ caller, form, reply }) {
      const subscription = readPushSubscription(form.get('subscription') ?? '')
      if (subscription === undefined) throw new OAuthError('invalid_request', 'subscription is not a push subscription')
      const replaced = form.get('replaces')
      const replacedHash = form.get('replaces_hash') ?? (replaced && fingerprint(replaced))
      const isAdded = await subscriptions.add(caller.userId, subscription, caller.tokenHash, replacedHash)
      if (!isAdded) throw sessionEnded()
      reply.code(201)
      return { subscribed: true }
    },
  })

  userRoute(app, `${path}/remove`, identifyCaller, {
    async POST({ caller, form }) {
      const removed = await subscriptions.remove(caller.userId, form.get('endpoint') ?? '', caller.tokenHash)
      if (removed === undefined) throw sessionEnded()
      return { subscribed: false }
    },
  })

  userRoute(app, `${path}/claim`, identifyCaller, {
    async POST({ caller, form }) {
      const endpointHash = form.get('endpoint_hash') ?? fingerprint(form.get('endpoint') ?? '')
      const claimed = await subscriptions.claim(caller.userId, endpointHash, caller.tokenHash)
      if (claimed === undefined) throw sessionEnded()
      return { subscribed: claimed.isSubscribed, ended_another: claimed.endedAnother }
    },
  })
}
