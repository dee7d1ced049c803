/** Where a user is signed in, through the device API: noting it, seeing it, ending it. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { type Form, readJsonFields } from '../../platform/http/form.ts'
import { Refusal } from '../../platform/oauth-error.ts'
import { type IdentifyCaller, requireBearer } from './device-caller.ts'

export interface SeenSession {
  id: string
  browser: string
  /** Milliseconds since 1970. */
  signedInAt: number
  seenAt: number
  isCurrent: boolean
}

export interface SessionEndpointNeeds {
  identifyCaller: IdentifyCaller
  sessions: {
    note(accessToken: string, browser: string): Promise<void>
    list(userId: string, accessToken: string): Promise<SeenSession[]>
    end(userId: string, id: string, address: string): Promise<boolean>
    endAll(userId: string, address: string): Promise<void>
  }
}

const mostCharacters = 100

export function sessionEndpoint(
  app: FastifyInstance,
  path: string,
  { identifyCaller, sessions }: SessionEndpointNeeds,
) {
  onlyMethods(app, path, ['GET', 'POST'])
  app.get(path, async (request, reply) => {
    const { userId, token } = await caller(request, new Map())
    const seen = await sessions.list(userId, token)
    return reply.header('cache-control', 'no-store').send({
      sessions: seen.map(({ id, browser, signedInAt, seenAt, isCurrent }) => ({
        id,
        browser,
        signed_in_at: Math.floor(signedInAt / 1000),
        seen_at: Math.floor(seenAt / 1000),
        current: isCurrent,
      })),
    })
  })

  app.post(path, async (request, reply) => {
    const form = formOf(request)
    const { token } = await caller(request, form)
    await sessions.note(token, (form.get('browser') ?? '').slice(0, mostCharacters))
    return reply.code(201).send({ noted: true })
  })

  onlyMethods(app, `${path}/end`, ['POST'])
  app.post(`${path}/end`, async (request, reply) => {
    const form = formOf(request)
    const { userId } = await caller(request, form)
    const id = form.get('id')
    if (id === undefined) {
      if (form.get('everywhere') !== 'true') throw new Refusal('invalid_request', 'send id, or everywhere=true')
      await sessions.endAll(userId, request.ip)
    } else if (!(await sessions.end(userId, id, request.ip))) {
      throw new Refusal('not_found', 'there is no such session', { status: 404 })
    }
    return reply.send({ ended: true })
  })

  async function caller(request: FastifyRequest, form: Form) {
    const { authorization } = request.headers
    requireBearer(authorization)
    const { userId } = await identifyCaller(request.raw, form)
    return { userId, token: authorization!.split(/ +/)[1]! }
  }
}

function formOf(request: FastifyRequest): Form {
  return readJsonFields(request.headers['content-type'], rawBody(request))
}
