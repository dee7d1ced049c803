/**
 * A user's own passkeys in the device API: adds, lists, renames and removes passkeys, and returns the WebAuthn options for
 * confirming a request with a passkey.
 */
import type { FastifyInstance } from 'fastify'
import { statusAt } from '../../ciba/authentication-request/authentication-request.ts'
import type { RequestStore } from '../../ciba/authentication-request/authentication-request-store.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { browserName } from '../../platform/http/browser-name.ts'
import type { Form } from '../../platform/http/form.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { longestPasskeyName, readPasskeyName } from '../../platform/passkey-name.ts'
import type { Passkeys } from '../../user/passkey/passkey.ts'
import { mostPasskeys, type Passkey } from '../../user/passkey/passkey-store.ts'
import type { UserHooks } from '../../user/user.ts'
import type { NoticesOfChange } from '../channels/account-notice.ts'
import { type SignInNeeded, signInNeeded } from './approval-strength.ts'
import type { DeviceCaller, IdentifyCaller } from './device-caller.ts'
import { needed, userRoute } from './user-route.ts'

export interface PasskeyEndpointNeeds {
  identifyCaller: IdentifyCaller
  users: UserHooks
  requests: RequestStore
  passkeys: Passkeys
  noticesOfChange: NoticesOfChange
  /**
   * Counts an attempt to add a passkey. Resolves to false if the user has made more than `mostAttempts` within an hour.
   */
  countAttempt(userId: string): Promise<boolean>
  /** Whether users sign in on this server's pages, where a passkey can be used. */
  signsInHere: boolean
  clock: Clock
  audit: Audit
}

/**
 * How often a user may try to add a passkey within an hour. The user gets a message for each added passkey.
 * `mostPasskeys` does not limit the number of messages, because the user can add a passkey, remove it, and add another
 * passkey.
 */
export const mostAttempts = 20

export function passkeyEndpoint(app: FastifyInstance, path: string, needs: PasskeyEndpointNeeds): void {
  addingRoutes(app, path, needs)
  changingRoutes(app, path, needs)
  confirmingRoute(app, path, needs)
}

function addingRoutes(app: FastifyInstance, path: string, needs: PasskeyEndpointNeeds): void {
  const { passkeys, audit } = needs

  userRoute(app, path, needs.identifyCaller, {
    async GET({ caller }) {
      const list = await passkeys.list(caller.userId)
      const needed = signInNeeded(caller, { ...needs, hasPasskey: list.length > 0 }, needs.clock.now())
      return { passkeys: list.map(show), sign_in_needed: needed }
    },
    async POST({ caller, form, request, reply }) {
      const { user } = await mayAdd(caller)
      if (!(await needs.countAttempt(user.id))) throw tooOften()
      const browser = browserName(request.headers['user-agent'])
      const added = await passkeys.register(user, needed(form, 'passkey'), {
        name: readName(form),
        tokenHash: caller.tokenHash,
        notices: needs.noticesOfChange({ type: 'passkey.added', userId: user.id, browser }),
      })
      if (added === undefined) throw new OAuthError('invalid_request', 'the passkey was not accepted')
      audit({ event: 'passkey.added', user: user.id, address: request.ip, about: added.id })
      reply.code(201)
      return show(added)
    },
  })

  userRoute(app, `${path}/options`, needs.identifyCaller, {
    async POST({ caller, form }) {
      const { user, known } = await mayAdd(caller)
      // The name is checked before the authenticator makes a passkey. Otherwise the authenticator would keep a passkey that
      // is refused here.
      readName(form)
      return passkeys.registrationOptions(user, known)
    },
  })

  /**
   * Checks that this caller may add a passkey now. Resolves to the user, and to the passkeys that the user has.
   *
   * @throws {OAuthError} `insufficient_user_authentication` if `signInNeeded` requires a sign-in; `invalid_request` if
   *   the user already has `mostPasskeys` passkeys
   */
  async function mayAdd(caller: DeviceCaller) {
    const known = await justSignedIn(caller, needs)
    if (known.length >= mostPasskeys) {
      throw new OAuthError(
        'invalid_request',
        `a user may have ${mostPasskeys} passkeys: remove one before adding another`,
      )
    }
    return { user: await findUser(caller.userId), known }
  }

  async function findUser(id: string) {
    const user = await needs.users.find(id)
    if (user === null) throw new OAuthError('not_found', 'the user no longer exists')
    return user
  }
}

function changingRoutes(app: FastifyInstance, path: string, needs: PasskeyEndpointNeeds): void {
  const { passkeys, audit } = needs

  userRoute(app, `${path}/rename`, needs.identifyCaller, {
    async POST({ caller, form, request }) {
      const { userId } = caller
      // The names are what a user recognises passkeys by. Somebody who has taken over a session must not be able to give
      // a passkey the name of another.
      await justSignedIn(caller, needs)
      const id = needed(form, 'id')
      needed(form, 'name')
      const name = readName(form)!
      if (!(await passkeys.rename(userId, id, name, caller.tokenHash)))
        throw new OAuthError('not_found', 'the user has no such passkey')
      audit({ event: 'passkey.renamed', user: userId, address: request.ip, about: id })
      return { id, name }
    },
  })

  userRoute(app, `${path}/remove`, needs.identifyCaller, {
    async POST({ caller, form, request }) {
      const { userId } = caller
      await justSignedIn(caller, needs)
      const id = needed(form, 'id')
      if (!(await passkeys.remove(userId, id, caller.tokenHash)))
        throw new OAuthError('not_found', 'the user has no such passkey')
      audit({ event: 'passkey.removed', user: userId, address: request.ip, about: id })
      return { id, removed: true }
    },
  })
}

function confirmingRoute(app: FastifyInstance, path: string, needs: PasskeyEndpointNeeds): void {
  userRoute(app, `${path}/confirm-options`, needs.identifyCaller, {
    async POST({ caller: { userId }, form }) {
      const now = needs.clock.now()
      const request = await needs.requests.findForUser(userId, { id: needed(form, 'request_id') })
      if (request === undefined || statusAt(request, now) !== 'pending')
        throw new OAuthError('not_found', 'no such request is waiting for this user')
      const options = await needs.passkeys.confirmOptions(userId, request.id)
      if (options === undefined) throw new OAuthError('not_found', 'the user has no passkey')
      return options
    },
  })
}

/**
 * Resolves to the user's passkeys.
 * @throws {OAuthError} `insufficient_user_authentication` if `signInNeeded` requires a sign-in
 */
async function justSignedIn(caller: DeviceCaller, needs: PasskeyEndpointNeeds): Promise<Passkey[]> {
  const known = await needs.passkeys.list(caller.userId)
  const needed = signInNeeded(caller, { ...needs, hasPasskey: known.length > 0 }, needs.clock.now())
  if (needed !== undefined) throw notJustSignedIn(needed)
  return known
}

function notJustSignedIn({ max_age, acr_values }: SignInNeeded): OAuthError {
  const how = acr_values === undefined ? '' : `, acr_values="${acr_values}"`
  return new OAuthError('insufficient_user_authentication', 'changing passkeys requires a recent sign-in', {
    headers: {
      'WWW-Authenticate': `Bearer realm="doorbell", error="insufficient_user_authentication", max_age="${max_age}"${how}`,
    },
  })
}

function tooOften(): OAuthError {
  return new OAuthError('access_denied', 'passkeys were added too often; try again in an hour', {
    status: 429,
    headers: { 'Retry-After': '3600' },
    members: { too_often: true },
  })
}

function readName(form: Form): string | undefined {
  const text = form.get('name')
  if (text === undefined) return undefined
  const name = readPasskeyName(text)
  if (name === undefined) {
    throw new OAuthError('invalid_request', `name must be 1 to ${longestPasskeyName} visible characters`, {
      members: { bad_name: true },
    })
  }
  return name
}

/** Returns a passkey for the response. Times are in seconds since 1970, as everywhere in the device API. */
function show({ id, name, createdAt, usedAt }: Passkey) {
  return {
    id,
    name,
    created_at: Math.floor(createdAt / 1000),
    used_at: usedAt === undefined ? undefined : Math.floor(usedAt / 1000),
  }
}
