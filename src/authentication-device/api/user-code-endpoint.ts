/** A user's own code, through the device API: whether there is one, setting, changing and removing it (UC-5). */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { AddingStep } from '../../outbox/outbox-worker.ts'
import type { Audit, AuditEventName } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { onlyMethods, rawBody } from '../../platform/http/answer.ts'
import { browserName } from '../../platform/http/browser-name.ts'
import { callerOf } from '../../platform/http/connection.ts'
import { type Form, readJsonFields } from '../../platform/http/form.ts'
import { Refusal } from '../../platform/oauth-error.ts'
import type { PasswordTryThrottle } from '../../user/attempts/sign-in-throttle.ts'
import type { CheckPassword } from '../../user/password/password-check.ts'
import type { PasswordHashing } from '../../user/password/password-hashing.ts'
import type { User, UserHooks } from '../../user/user.ts'
import { type Change, isUserCode, type OwnCode } from '../../user/user-code/user-code.ts'
import type { TellOfChange } from '../channels/account-notice.ts'
import { signedInJustNow } from './approval-strength.ts'
import { type IdentifyCaller, requireBearer } from './device-caller.ts'

export interface UserCodeEndpointNeeds {
  identifyCaller: IdentifyCaller
  users: UserHooks
  /** Undefined if no passwords are checked here. */
  checkPassword: CheckPassword | undefined
  ownCode: OwnCode
  tellOfChange: TellOfChange
  /** Whoever says that a code is not the password has tried a password. */
  throttle: PasswordTryThrottle
  clock: Clock
  audit: Audit
}

export function userCodeEndpoint(app: FastifyInstance, path: string, needs: UserCodeEndpointNeeds): void {
  const { ownCode, audit } = needs

  onlyMethods(app, path, ['GET', 'POST'])
  app.get(path, async (request, reply) => {
    const { user, recently } = await caller(request, new Map())
    const { isSet, setAt } = await ownCode.look(user)
    return reply.header('cache-control', 'no-store').send({
      set: isSet,
      set_at: setAt === undefined ? undefined : Math.floor(setAt / 1000),
      present_code_needed: !recently,
    })
  })

  post(path, (form) => {
    const code = form.get('user_code') ?? ''
    if (!isUserCode(code)) throw new Refusal('invalid_request', 'user_code must be 4 to 64 visible characters')
    return { code, event: 'user_code.set' }
  })

  onlyMethods(app, `${path}/remove`, ['POST'])
  post(`${path}/remove`, () => ({ code: undefined, event: 'user_code.removed' }))

  /** @param read what is to become of the code */
  function post(at: string, read: (form: Form) => { code: string | undefined; event: AuditEventName }) {
    app.post(at, async (request, reply) => {
      const form = formOf(request)
      const { user, recently, clientId } = await caller(request, form)
      const { code, event } = read(form)
      const proof = {
        presentCode: form.get('present_code'),
        signedInJustNow: recently,
        clientId,
        connection: callerOf(reply),
        telling: (step: AddingStep) => tell(code, user.id, request.headers['user-agent'], step),
        mayBe: (code: string, hashing: PasswordHashing) => refusePassword(code, user, hashing),
      }
      refuseUnlessChanged(await ownCode.change(user, code, proof))
      audit({ event, user: user.id, address: request.ip, by: clientId })
      return reply.header('cache-control', 'no-store').send({ set: code !== undefined })
    })
  }

  /** Having none any more lets nobody in. */
  function tell(code: string | undefined, userId: string, userAgent: string | undefined, step: AddingStep) {
    if (code === undefined) return step([], [])
    return needs.tellOfChange({ type: 'user_code.set', userId, browser: browserName(userAgent) }, step)
  }

  /**
   * It is told to clients, which must never hear what its user signs in with. Whoever has got hold of a session must not
   * find the password out so: each code that is to be set counts as a password that was tried.
   */
  async function refusePassword(code: string, user: User, hashing: PasswordHashing): Promise<void> {
    if (needs.checkPassword === undefined) return
    const pausedUntil = await needs.throttle(user.id)
    if (pausedUntil !== undefined) {
      const seconds = Math.max(1, Math.ceil((pausedUntil - needs.clock.now()) / 1000))
      throw new Refusal('access_denied', 'the code was changed too often; try again later', {
        status: 429,
        headers: { 'Retry-After': String(seconds) },
        members: { too_often: true },
      })
    }
    if (!(await needs.checkPassword(user, code, hashing))) return
    throw new Refusal('invalid_request', 'user_code must not be the password', { members: { is_password: true } })
  }

  /** Only with the user's own token: a code is nobody else's business, a device service's neither. */
  async function caller(request: FastifyRequest, form: Form) {
    requireBearer(request.headers.authorization)
    const { userId, clientId, authentication } = await needs.identifyCaller(request.raw, form)
    const user = await needs.users.find(userId)
    if (user === null) throw new Refusal('not_found', 'the user is gone')
    return { user, clientId, recently: signedInJustNow(authentication, needs.clock.now()) }
  }
}

function refuseUnlessChanged(change: Change): void {
  switch (change) {
    case 'changed':
      return
    case 'proof needed':
      throw new Refusal('access_denied', 'send present_code, or sign in again', { members: { proof_needed: true } })
    case 'wrong':
      throw new Refusal('invalid_user_code', 'present_code is wrong')
    case 'locked':
      throw new Refusal('access_denied', 'too many wrong codes; sign in again, or try later', {
        members: { locked: true },
      })
    case 'meanwhile changed':
      throw new Refusal('already_decided', 'the code was changed meanwhile')
  }
}

function formOf(request: FastifyRequest): Form {
  if (rawBody(request).length === 0) return new Map()
  return readJsonFields(request.headers['content-type'], rawBody(request))
}
