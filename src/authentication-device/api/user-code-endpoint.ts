/** A user's own user code in the device API: shows whether a code is set; sets, changes and removes the code. */
import type { FastifyInstance } from 'fastify'
import type { Audit, AuditEventName } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { browserName } from '../../platform/http/browser-name.ts'
import { callerOf } from '../../platform/http/connection.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { PasswordTryThrottle } from '../../user/attempts/sign-in-throttle.ts'
import type { CheckPassword } from '../../user/password/password-check.ts'
import type { User, UserHooks } from '../../user/user.ts'
import { type Change, isUserCode, type OwnCode } from '../../user/user-code/user-code.ts'
import type { NoticesOfChange } from '../channels/account-notice.ts'
import { signedInJustNow } from './approval-strength.ts'
import type { IdentifyCaller } from './device-caller.ts'
import { type UserCall, userRoute } from './user-route.ts'

export interface UserCodeEndpointNeeds {
  identifyCaller: IdentifyCaller
  users: UserHooks
  /** Undefined if this server checks no passwords. */
  checkPassword: CheckPassword | undefined
  ownCode: OwnCode
  noticesOfChange: NoticesOfChange
  /**
   * Limits how often a new code is compared with the user's password, because each comparison is an attempt to guess
   * the password.
   */
  throttle: PasswordTryThrottle
  clock: Clock
  audit: Audit
}

export function userCodeEndpoint(app: FastifyInstance, path: string, needs: UserCodeEndpointNeeds): void {
  const { ownCode, audit } = needs

  userRoute(app, path, needs.identifyCaller, {
    async GET(call) {
      const user = await findUser(call)
      const { isSet, setAt } = await ownCode.look(user)
      return {
        set: isSet,
        set_at: setAt === undefined ? undefined : Math.floor(setAt / 1000),
        present_code_needed: !isRecent(call),
      }
    },
    async POST(call) {
      const code = call.form.get('user_code') ?? ''
      if (!isUserCode(code)) throw new OAuthError('invalid_request', 'user_code must be 4 to 64 visible characters')
      return change(call, code, 'user_code.set')
    },
  })

  userRoute(app, `${path}/remove`, needs.identifyCaller, {
    POST: (call) => change(call, undefined, 'user_code.removed'),
  })

  /** @param code the new code, or undefined to remove the code */
  async function change(call: UserCall, code: string | undefined, event: AuditEventName) {
    const { caller, form, request, reply } = call
    const user = await findUser(call)
    const proof = {
      presentCode: form.get('present_code'),
      signedInJustNow: isRecent(call),
      clientId: caller.clientId,
      tokenHash: caller.tokenHash,
      connection: callerOf(reply),
      notices: noticesOf(code, user.id, request.headers['user-agent']),
      mayBe: (code: string) => refusePassword(code, user),
    }
    refuseUnlessChanged(await ownCode.change(user, code, proof))
    audit({ event, user: user.id, address: request.ip, by: caller.clientId })
    return { set: code !== undefined }
  }

  const isRecent = ({ caller }: UserCall) => signedInJustNow(caller.authentication, needs.clock.now())

  async function findUser({ caller }: UserCall): Promise<User> {
    const user = await needs.users.find(caller.userId)
    if (user === null) throw new OAuthError('not_found', 'the user no longer exists')
    return user
  }

  /**
   * Returns the notifications to the user about a new code. The user is not notified of the removal of a code, because
   * an attacker gains no access by removing it.
   */
  function noticesOf(code: string | undefined, userId: string, userAgent: string | undefined) {
    if (code === undefined) return []
    return needs.noticesOfChange({ type: 'user_code.set', userId, browser: browserName(userAgent) })
  }

  /**
   * Refuses the password as a user code, because users give their codes to clients. Each new code counts as an attempt
   * to guess the password. So an attacker with an open session cannot find out the password by setting codes.
   */
  async function refusePassword(code: string, user: User): Promise<void> {
    if (needs.checkPassword === undefined) return
    const pausedUntil = await needs.throttle(user.id)
    if (pausedUntil !== undefined) {
      const seconds = Math.max(1, Math.ceil((pausedUntil - needs.clock.now()) / 1000))
      throw new OAuthError('access_denied', 'the code was changed too often; try again later', {
        status: 429,
        headers: { 'Retry-After': String(seconds) },
        members: { too_often: true },
      })
    }
    if (!(await needs.checkPassword(user, code))) return
    throw new OAuthError('invalid_request', 'user_code must not be the password', { members: { is_password: true } })
  }
}

function refuseUnlessChanged(change: Change): void {
  switch (change) {
    case 'changed':
      return
    case 'proof needed':
      throw new OAuthError('access_denied', 'send present_code, or sign in again', { members: { proof_needed: true } })
    case 'wrong':
      throw new OAuthError('invalid_user_code', 'present_code is wrong')
    case 'locked':
      throw new OAuthError('access_denied', 'too many wrong codes; sign in again, or try later', {
        members: { locked: true },
      })
    case 'meanwhile changed':
      throw new OAuthError('already_decided', 'the code was changed in the meantime')
  }
}
