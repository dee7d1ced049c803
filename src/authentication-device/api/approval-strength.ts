/** How strongly a user must be authenticated to approve a request, and how strongly the user is. */
import { type AuthenticationRequest, statusAt } from '../../ciba/authentication-request/authentication-request.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import type { Clock } from '../../platform/clock.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { Passkeys } from '../../user/passkey/passkey.ts'
import { asksForPasskey, authenticatedByPasskey, PASSKEY_ACR } from '../../user/passkey/passkey-strength.ts'
import type { DeviceCaller } from './device-caller.ts'

export type Approver = Pick<DeviceCaller, 'kind' | 'userId' | 'authentication'>

export interface ApprovalNeeds {
  passkeys: Passkeys
  clients: Pick<ClientStore, 'find'>
  clock: Clock
}

export type AuthenticateApproval = (
  request: AuthenticationRequest,
  approver: Approver,
  passkey: string | undefined,
) => Promise<Authentication>

/** Seconds for which a sign-in is one of just now. */
const freshFor = 5 * 60
/** Milliseconds that two clocks may be apart. */
const skew = 10_000

/**
 * Whether this approver has to confirm with a passkey: the request or its client wants one, and the user's sign-in was
 * none, or is a while ago. A device service has authenticated its user itself, and says how.
 */
export function passkeyRequired(
  request: AuthenticationRequest,
  client: ClientMetadata | undefined,
  { kind, authentication }: Omit<Approver, 'userId'>,
  now: number,
): boolean {
  if (kind !== 'user') return false
  if (!asksForPasskey(request.acrValues) && client?.backchannel_require_passkey !== true) return false
  return !(authentication.acr === PASSKEY_ACR && signedInJustNow(authentication, now))
}

/**
 * What a user has to do before changing how they sign in: whoever finds an open session, or has stolen a password or a
 * token, must not be able to make it last. Nothing if they have just signed in, with a passkey if they have one.
 *
 * @param signsInHere whether our own sign-in pages are the ones that users see; another provider's strength is its own
 */
export function signInNeeded(
  { authentication }: Pick<Approver, 'authentication'>,
  { hasPasskey, signsInHere }: { hasPasskey: boolean; signsInHere: boolean },
  now: number,
): SignInNeeded | undefined {
  const strongly = hasPasskey && signsInHere
  if (signedInJustNow(authentication, now) && (!strongly || authentication.acr === PASSKEY_ACR)) return undefined
  return { max_age: freshFor, ...(strongly && { acr_values: PASSKEY_ACR }) }
}

/** In the words of an authorization request (RFC 9470). */
export interface SignInNeeded {
  /** Seconds. */
  max_age: number
  acr_values?: string
}

export function signedInJustNow({ authTime }: Authentication, now: number): boolean {
  // What another provider says of the future is no proof of the present.
  return authTime !== undefined && authTime * 1000 <= now + skew && now < (authTime + freshFor) * 1000
}

/**
 * How a user who approves is authenticated: by the passkey just used, or by the sign-in if that is enough.
 *
 * @param passkey what the authenticator answered, as the browser's JSON text
 * @throws {OAuthError} `access_denied` if the passkey is not the user's, or a passkey is wanted and none was used
 */
export function createAuthenticateApproval({ passkeys, clients, clock }: ApprovalNeeds): AuthenticateApproval {
  return async (request, approver, passkey) => {
    // There is nothing left to approve: the decision's own step says what became of the request.
    if (request.userId !== approver.userId || statusAt(request, clock.now()) !== 'pending') {
      return approver.authentication
    }
    if (passkey !== undefined) return confirmed(request, approver, passkey)
    const client = await clients.find(request.clientId)
    if (passkeyRequired(request, client?.metadata, approver, clock.now())) {
      throw new OAuthError('access_denied', 'approving this request requires a passkey', {
        members: { passkey_required: true },
      })
    }
    return approver.authentication
  }

  async function confirmed(request: AuthenticationRequest, { kind, userId }: Approver, passkey: string) {
    if (kind !== 'user')
      throw new OAuthError('invalid_request', 'passkey may only be sent with an access token of the user')
    if (!(await passkeys.confirm(userId, request.id, passkey))) {
      throw new OAuthError('access_denied', 'the passkey was not accepted')
    }
    return authenticatedByPasskey(clock.now())
  }
}
