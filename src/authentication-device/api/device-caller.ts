/**
 * Authenticates callers of the device API. Two kinds of callers may see and decide a user's requests: the user, with
 * their own access token, and a trusted device service on behalf of a user that it has authenticated. A client that may
 * send authentication requests is always refused, regardless of its tokens.
 */

import type { FindUser, SentHint } from '../../ciba/user-hint/find-user.ts'
import type { CertificateCall, ReadCertificate } from '../../client/certificate/client-certificate.ts'
import {
  type AuthenticateClient,
  type Client,
  type ClientCredentials,
  isCibaClient,
  isDeviceService,
  mayHintBy,
} from '../../client/client.ts'
import type { ClientStore } from '../../client/client-store.ts'
import { DECIDE_SCOPE } from '../../client/metadata/client-metadata.ts'
import { type CallWithProof, type Proofs, proofSentWith } from '../../client/sender-constraint/dpop-proof.ts'
import type { ReturningUsers } from '../../openid-provider/oidc-call-limits.ts'
import type { CurrentProvider } from '../../openid-provider/openid-provider.ts'
import { fingerprint } from '../../platform/crypto.ts'
import { accessTokenOf, type SentAccessToken } from '../../platform/http/authorization.ts'
import type { Form } from '../../platform/http/form.ts'
import { type LoadShedding, slotOf } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Authentication } from '../../user/authentication.ts'
import type { UserHooks } from '../../user/user.ts'
import { createUserShares } from './user-shares.ts'

/** An authenticated caller of the device API. */
export interface DeviceCaller {
  kind: 'user' | 'device_service'
  userId: string
  /**
   * The client that makes the call: the client of the user's access token, or the device service. This client must not
   * decide requests that it has sent itself.
   */
  clientId: string
  /**
   * The hash of the user's access token. The call changes data only if this token is still valid when the change is
   * made. So the call fails if the user signs out during the call. Undefined for a device service.
   */
  tokenHash: string | undefined
  /**
   * The `uid` of the session at this provider to which the access token belongs. Undefined if the token belongs to no
   * session.
   */
  sessionUid?: string | undefined
  /**
   * How the user signed in, from the user's token. Empty for a device service, because a device service states with
   * each decision how the user was authenticated.
   */
  authentication: Authentication
}

export interface CallerNeeds {
  provider: CurrentProvider
  clients: ClientStore
  users: UserHooks
  authenticateClient: AuthenticateClient
  certificateOf: ReadCertificate
  proofs: Proofs
  findUser: FindUser
  whileUnproven: LoadShedding['whileUnproven']
  returningUsers: Pick<ReturningUsers, 'byToken'>
}

/** The incoming request: its `Authorization` header, its DPoP proof, and the certificate of its connection. */
export type DeviceCall = CertificateCall & CallWithProof

/**
 * Authenticates the caller, then runs `work` for this caller.
 *
 * @param address the caller's IP address, for the audit
 * @throws {Overloaded} if too many calls of this user, or of callers that are not authenticated yet, are in progress
 */
export type IdentifyCaller = <Result>(
  call: DeviceCall,
  form: Form,
  work: (caller: DeviceCaller) => Promise<Result>,
  address?: string,
) => Promise<Result>

/**
 * Returns the function that authenticates callers: by the access token if one is sent, and as a device service if not.
 */
export function createIdentifyCaller(needs: CallerNeeds): IdentifyCaller {
  const shares = createUserShares()
  return async (call, form, work, address) => {
    const { authorization } = call.headers
    const credentials = {
      form,
      authorization: authorization as string | undefined,
      certificate: needs.certificateOf(call),
      address,
      slot: slotOf(call),
    }
    const workFor = (caller: DeviceCaller) => shares.within(`user ${caller.userId}`, () => work(caller))
    const sent = accessTokenOf(credentials.authorization)
    if (sent === undefined) return workFor(await asDeviceService(credentials, needs))
    // Anyone can send any number of invalid tokens, and each look-up of a token reads the database. Therefore two
    // limits apply during the look-up. `shares` limits the calls with the same token, and `whileUnproven` limits the
    // calls of all callers that are not authenticated yet.
    const returning = needs.returningUsers.byToken(sent.token)
    const find = () => asUser({ ...sent, call }, needs)
    return shares.within(`token ${fingerprint(sent.token)}`, async () =>
      workFor(await needs.whileUnproven('', credentials.slot, find, returning)),
    )
  }
}

/**
 * Refuses a call without an access token. Used at endpoints that accept no other authentication, and for every GET. A
 * device service cannot use GET, because it would have to send its credentials and the hint in the URL.
 * @throws {OAuthError} `invalid_token` if no access token was sent
 */
export function requireAccessToken(authorization: string | undefined): void {
  if (accessTokenOf(authorization) !== undefined) return
  throw new OAuthError('invalid_token', "send the user's access token")
}

interface SentToken extends SentAccessToken {
  call: DeviceCall
}

async function asUser(sent: SentToken, needs: CallerNeeds): Promise<DeviceCaller> {
  const { provider, clients, users } = needs
  const token = await provider().AccessToken.find(sent.token)
  if (token === undefined || token.accountId === undefined) throw invalidToken('the access token is unknown or expired')
  await refuseUnlessTheirs(sent, token, needs)
  if (!token.scope?.split(' ').includes(DECIDE_SCOPE)) throw insufficientScope()

  const client = token.clientId === undefined ? undefined : await clients.find(token.clientId)
  if (client === undefined) throw invalidToken('the client of this access token no longer exists')
  if (isCibaClient(client)) throw notForCibaClients(client)

  const user = await users.find(token.accountId)
  if (user === null || user.disabled) throw invalidToken('the user of this access token is no longer available')

  const { auth_time, acr, amr } = (token.extra ?? {}) as { auth_time?: number; acr?: string; amr?: string[] }
  const authentication = { authTime: auth_time, acr, amr }
  const { sessionUid } = token as { sessionUid?: string }
  const tokenHash = fingerprint(sent.token)
  return { kind: 'user', userId: user.id, clientId: client.id, tokenHash, sessionUid, authentication }
}

/**
 * Refuses a sender-constrained token if the call does not prove possession of its key, by the client certificate
 * (RFC 8705 §3) or a DPoP proof (RFC 9449 §7).
 */
async function refuseUnlessTheirs(
  { token, scheme, call }: SentToken,
  boundTo: { 'x5t#S256'?: string | undefined; jkt?: string | undefined },
  { certificateOf, proofs }: CallerNeeds,
): Promise<void> {
  const certificate = boundTo['x5t#S256']
  if (certificate !== undefined && certificate !== certificateOf(call)?.thumbprint) {
    throw invalidToken('the access token is bound to another certificate')
  }
  const isBearer = scheme === 'bearer'
  if (boundTo.jkt === undefined && isBearer) return
  const challenge = proofs.challenge('invalid_token')
  if (boundTo.jkt === undefined) throw invalidToken('the access token is not bound to a key', challenge)
  if (isBearer) throw invalidToken('the access token is bound to a key, but no DPoP proof was sent', challenge)
  const proof = await proofs.read(proofSentWith(call), token)
  // The key is compared first, because `accept` makes a costly check of the signature and stores the proof as used.
  if (proof.key !== boundTo.jkt) throw invalidToken('the access token is bound to another key', challenge)
  await proof.accept()
}

async function asDeviceService(
  credentials: ClientCredentials,
  { authenticateClient, findUser }: CallerNeeds,
): Promise<DeviceCaller> {
  const client = await authenticateClient(credentials)
  if (!isDeviceService(client)) throw notForCibaClients(client)
  const hints = readHints(credentials.form)
  if (hints.length !== 1) throw new OAuthError('invalid_request', 'send exactly one hint that identifies the user')
  if (!mayHintBy(client, hints[0]!.kind)) {
    throw new OAuthError('invalid_request', 'this client may not use this kind of hint')
  }
  const user = await findUser(hints[0]!, client, credentials.slot)
  return { kind: 'device_service', userId: user.id, clientId: client.id, tokenHash: undefined, authentication: {} }
}

function readHints(form: Form): SentHint[] {
  const kinds = ['login_hint', 'id_token_hint', 'login_hint_token'] as const
  return kinds.flatMap((kind) => {
    const value = form.get(kind)
    return value === undefined ? [] : [{ kind, value }]
  })
}

/** @param challenge the value of `WWW-Authenticate`. Default: the challenge for a bearer token */
function invalidToken(detail: string, challenge?: string): OAuthError {
  return new OAuthError('invalid_token', 'the access token is not valid', {
    detail,
    headers: challenge === undefined ? {} : { 'WWW-Authenticate': challenge },
  })
}

/** Returns the error for a call that changed nothing because the session of its access token has ended. */
export const sessionEnded = () => invalidToken('the session of this access token has ended')

function insufficientScope(): OAuthError {
  return new OAuthError('insufficient_scope', `the access token lacks the scope ${DECIDE_SCOPE}`, {
    headers: { 'WWW-Authenticate': `Bearer realm="doorbell", error="insufficient_scope", scope="${DECIDE_SCOPE}"` },
  })
}

function notForCibaClients(client: Client): OAuthError {
  return new OAuthError('access_denied', 'this client may not see or decide requests', {
    detail: `${client.id} is not a trusted device service`,
  })
}
