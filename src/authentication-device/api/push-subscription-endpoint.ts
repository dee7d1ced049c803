/** The browsers a user wants to be told on, through the device API. */
import type { FastifyInstance } from 'fastify'
import { fingerprint } from '../../platform/crypto.ts'
import { Refusal } from '../../platform/oauth-error.ts'
import type { IdentifyCaller } from './device-caller.ts'
import { userRoute } from './user-route.ts'

export interface PushSubscriptionNeeds {
  identifyCaller: IdentifyCaller
  /** Keeps a subscription as the browser wrote it. Answers whether it was one. */
  add(userId: string, subscription: string): Promise<boolean>
  remove(userId: string, endpoint: string): Promise<unknown>
  /** Whether the user is told at this endpoint; another user's subscription there ends. */
  claim(userId: string, endpointHash: string): Promise<{ isSubscribed: boolean; endedAnother: boolean }>
}

export function pushSubscriptionEndpoint(app: FastifyInstance, path: string, needs: PushSubscriptionNeeds): void {
  userRoute(app, path, needs.identifyCaller, {
    async POST({ caller, form, reply }) {
      const kept = await needs.add(caller.userId, form.get('subscription') ?? '')
      if (!kept) throw new Refusal('invalid_request', 'subscription is not a push subscription')
      reply.code(201)
      return { subscribed: true }
    },
  })

  userRoute(app, `${path}/remove`, needs.identifyCaller, {
    async POST({ caller, form }) {
      await needs.remove(caller.userId, form.get('endpoint') ?? '')
      return { subscribed: false }
    },
  })

  userRoute(app, `${path}/claim`, needs.identifyCaller, {
    async POST({ caller, form }) {
      const endpointHash = form.get('endpoint_hash') ?? fingerprint(form.get('endpoint') ?? '')
      const { isSubscribed, endedAnother } = await needs.claim(caller.userId, endpointHash)
      return { subscribed: isSubscribed, ended_another: endedAnother }
    },
  })
}
