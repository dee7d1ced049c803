/** Checks whether a user is authenticated strongly enough to approve a request, or to change passkeys. */
import { type AuthenticationRequest, statusAt } from '../../ciba/authentication-request/authentication-request.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import type { Clock } from '../../platform/clock.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { Passkeys } from '../../user/passkey/passkey.ts'
import { asksForPasskey, authenticatedByPasskey, PASSKEY_ACR } from '../../user/passkey/passkey-strength.ts'
import type { DeviceCaller } from './device-caller.ts'
import { authenticationNeeded, insufficientAuthentication } from './required-authentication.ts'

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

/** How long a sign-in counts as recent, in seconds. */
const freshFor = 5 * 60
/** Milliseconds by which the clocks of this server and of another provider may differ. */
const skew = 10_000

/**
 * Returns whether this approver must confirm with a passkey. The confirmation is needed if the request or its client
 * requires a passkey, and the user has not recently signed in with a passkey. A device service never needs a passkey,
 * because it authenticates its users itself.
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
 * Returns the sign-in that is required before a user may change their passkeys, or undefined if the last sign-in
 * suffices. The last sign-in suffices if it is recent. If the user has a passkey, that sign-in must also have been made
 * with a passkey. Without this rule, an attacker with an open session, a stolen password or a stolen token could add a
 * passkey and keep access permanently.
 *
 * @param signsInHere whether users sign in on this server's pages. If not, no passkey is required
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

/** Parameters of the authorization request by which the user signs in again (RFC 9470 §4). */
export interface SignInNeeded {
  /** Seconds. */
  max_age: number
  acr_values?: string
}

/** Returns whether the user signed in during the last five minutes. */
export function signedInJustNow({ authTime }: Authentication, now: number): boolean {
  // Another provider may state an authentication time in the future. Such a time does not count.
  return authTime !== undefined && authTime * 1000 <= now + skew && now < (authTime + freshFor) * 1000
}

/**
 * Returns the function that checks how the approving user is authenticated. The function resolves to the authentication
 * that is stored with the approval. If `passkey` (the authenticator's response as JSON text) is given, the confirmation
 * with the passkey is stored. If not, the user's sign-in is stored, or the authentication that a device service states.
 *
 * The function throws an `OAuthError`:
 * - `access_denied` if `passkey` is not accepted, or if it is missing although a passkey is required
 * - `insufficient_user_authentication` if the client requires another authentication
 * - `invalid_request` if a device service sent `passkey`
 */
export function createAuthenticateApproval({ passkeys, clients, clock }: ApprovalNeeds): AuthenticateApproval {
  return async (request, approver, passkey) => {
    // A request that is not pending cannot be approved. The caller calls `decide` next, which returns the reason.
    if (statusAt(request, clock.now()) !== 'pending') return approver.authentication
    const client = await clients.find(request.clientId)
    const now = clock.now()
    // The requirements are checked first, because checking the passkey uses up its challenge.
    const claimed = passkey === undefined ? approver.authentication : authenticatedByPasskey(now)
    const needsPasskey = passkey === undefined && passkeyRequired(request, client?.metadata, approver, now)
    if (needsPasskey) {
      throw new OAuthError('access_denied', 'approving this request requires a passkey', {
        members: { passkey_required: true },
      })
    }
    const needed = authenticationNeeded(request, client?.metadata, claimed, now)
    if (needed !== undefined) throw insufficientAuthentication(needed, approver.kind === 'user')
    return passkey === undefined ? approver.authentication : confirmed(request, approver, passkey)
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
