/** A user's own passkeys, through the device API: adding, listing, removing, and being asked for one. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { statusAt } from '../../ciba/authentication-request/authentication-request.ts'
import type { RequestStore } from '../../ciba/authentication-request/authentication-request-store.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { browserName } from '../../platform/http/browser-name.ts'
import { type Form, readJsonFields } from '../../platform/http/form.ts'
import { Refusal } from '../../platform/oauth-error.ts'
import type { Passkeys } from '../../user/passkey/passkey.ts'
import type { Passkey } from '../../user/passkey/passkey-store.ts'
import type { UserHooks } from '../../user/user.ts'
import type { TellOfChange } from '../channels/account-notice.ts'
import { type SignInNeeded, signInNeeded } from './approval-strength.ts'
import { type DeviceCaller, type IdentifyCaller, requireBearer } from './device-caller.ts'

export interface PasskeyEndpointNeeds {
  identifyCaller: IdentifyCaller
  users: UserHooks
  requests: RequestStore
  passkeys: Passkeys
  tellOfChange: TellOfChange
  /** Whether users see our own sign-in pages, where a passkey signs them in. */
  signsInHere: boolean
  clock: Clock
  audit: Audit
}

export function passkeyEndpoint(app: FastifyInstance, path: string, needs: PasskeyEndpointNeeds): void {
  const { passkeys, audit } = needs

  onlyMethods(app, path, ['GET', 'POST'])
  app.get(path, async (request, reply) => {
    const user = await caller(request, new Map())
    const list = await passkeys.list(user.userId)
    const needed = signInNeeded(user, { ...needs, hasPasskey: list.length > 0 }, needs.clock.now())
    return reply.header('cache-control', 'no-store').send({ passkeys: list.map(show), sign_in_needed: needed })
  })
  app.post(path, async (request, reply) => {
    const form = formOf(request)
    const user = await findUser(await justSignedIn(await caller(request, form)))
    const browser = browserName(request.headers['user-agent'])
    const added = await passkeys.register(user, needed(form, 'passkey'), {
      name: readName(form),
      telling: (step) => needs.tellOfChange({ type: 'passkey.added', userId: user.id, browser }, step),
    })
    if (added === undefined) throw new Refusal('invalid_request', 'the passkey was not accepted')
    audit({ event: 'passkey.added', user: user.id, address: request.ip, about: added.id })
    return reply.code(201).header('cache-control', 'no-store').send(show(added))
  })

  post('/options', async (user) => passkeys.registrationOptions(await findUser(await justSignedIn(user))))

  post('/remove', async (user, form, address) => {
    const userId = await justSignedIn(user)
    const id = needed(form, 'id')
    if (!(await passkeys.remove(userId, id))) throw new Refusal('not_found', 'the user has no such passkey')
    audit({ event: 'passkey.removed', user: userId, address, about: id })
    return { id, removed: true }
  })

  post('/confirm-options', async ({ userId }, form) => {
    const request = await needs.requests.find(needed(form, 'request_id'))
    const waiting = request?.userId === userId && statusAt(request, needs.clock.now()) === 'pending'
    if (!waiting) throw new Refusal('not_found', 'no such request is waiting for this user')
    const options = await passkeys.confirmOptions(userId, request.id)
    if (options === undefined) throw new Refusal('not_found', 'the user has no passkey')
    return options
  })

  function post(below: string, work: (user: DeviceCaller, form: Form, address: string) => Promise<object>): void {
    onlyMethods(app, path + below, ['POST'])
    app.post(path + below, async (request, reply) => {
      const form = formOf(request)
      return reply.header('cache-control', 'no-store').send(await work(await caller(request, form), form, request.ip))
    })
  }

  /** Only with the user's own token: a passkey is what a user proves to be there with, not what a service vouches for. */
  async function caller(request: FastifyRequest, form: Form): Promise<DeviceCaller> {
    requireBearer(request.headers.authorization)
    return needs.identifyCaller(request.raw, form)
  }

  /** @throws {Refusal} `insufficient_user_authentication` (RFC 9470) */
  async function justSignedIn(user: DeviceCaller): Promise<string> {
    const hasPasskey = (await passkeys.list(user.userId)).length > 0
    const needed = signInNeeded(user, { ...needs, hasPasskey }, needs.clock.now())
    if (needed !== undefined) throw notJustSignedIn(needed)
    return user.userId
  }

  async function findUser(id: string) {
    const user = await needs.users.find(id)
    if (user === null) throw new Refusal('not_found', 'the user is gone')
    return user
  }
}

function notJustSignedIn({ max_age, acr_values }: SignInNeeded): Refusal {
  const how = acr_values === undefined ? '' : `, acr_values="${acr_values}"`
  return new Refusal('insufficient_user_authentication', 'changing passkeys needs a sign-in of just now', {
    headers: {
      'WWW-Authenticate': `Bearer realm="doorbell", error="insufficient_user_authentication", max_age="${max_age}"${how}`,
    },
  })
}

function formOf(request: FastifyRequest): Form {
  // A call that says nothing, not even of what type it is.
  if (rawBody(request).length === 0) return new Map()
  return readJsonFields(request.headers['content-type'], rawBody(request))
}

function needed(form: Form, name: string): string {
  const value = form.get(name)
  if (value === undefined) throw new Refusal('invalid_request', `${name} is missing`)
  return value
}

function readName(form: Form): string | undefined {
  const name = form.get('name')?.trim()
  if (name !== undefined && !/^[^\p{Cc}]{1,100}$/u.test(name)) {
    throw new Refusal('invalid_request', 'name must be 1 to 100 characters')
  }
  return name
}

/** Times in seconds since 1970, as everywhere in the device API. */
function show({ id, name, createdAt, usedAt }: Passkey) {
  return {
    id,
    name,
    created_at: Math.floor(createdAt / 1000),
    used_at: usedAt === undefined ? undefined : Math.floor(usedAt / 1000),
  }
}
