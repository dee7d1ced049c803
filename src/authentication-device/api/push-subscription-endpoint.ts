/** The browsers a user wants to be told on, through the device API. */
import type { FastifyInstance } from 'fastify'
import { fingerprint } from '../../platform/crypto.ts'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { readJsonFields } from '../../platform/http/form.ts'
import { Refusal } from '../../platform/oauth-error.ts'
import { type IdentifyCaller, requireBearer } from './device-caller.ts'

export interface PushSubscriptionNeeds {
  identifyCaller: IdentifyCaller
  /** Keeps a subscription as the browser wrote it. Answers whether it was one. */
  add(userId: string, subscription: string): Promise<boolean>
  remove(userId: string, endpoint: string): Promise<unknown>
  /** Whether the user is told at this endpoint; another user's subscription there ends. */
  claim(userId: string, endpointHash: string): Promise<{ isSubscribed: boolean; endedAnother: boolean }>
}

export function pushSubscriptionEndpoint(app: FastifyInstance, path: string, needs: PushSubscriptionNeeds): void {
  onlyMethods(app, path, ['POST'])
  app.post(path, async (request, reply) => {
    requireBearer(request.headers.authorization)
    const form = readJsonFields(request.headers['content-type'], rawBody(request))
    const { userId } = await needs.identifyCaller(request.raw, form)
    const kept = await needs.add(userId, form.get('subscription') ?? '')
    if (!kept) throw new Refusal('invalid_request', 'subscription is not a push subscription')
    return reply.code(201).send({ subscribed: true })
  })

  onlyMethods(app, `${path}/remove`, ['POST'])
  app.post(`${path}/remove`, async (request, reply) => {
    requireBearer(request.headers.authorization)
    const form = readJsonFields(request.headers['content-type'], rawBody(request))
    const { userId } = await needs.identifyCaller(request.raw, form)
    await needs.remove(userId, form.get('endpoint') ?? '')
    return reply.send({ subscribed: false })
  })

  onlyMethods(app, `${path}/claim`, ['POST'])
  app.post(`${path}/claim`, async (request, reply) => {
    requireBearer(request.headers.authorization)
    const form = readJsonFields(request.headers['content-type'], rawBody(request))
    const { userId } = await needs.identifyCaller(request.raw, form)
    const endpointHash = form.get('endpoint_hash') ?? fingerprint(form.get('endpoint') ?? '')
    const { isSubscribed, endedAnother } = await needs.claim(userId, endpointHash)
    return reply.send({ subscribed: isSubscribed, ended_another: endedAnother })
  })
}
