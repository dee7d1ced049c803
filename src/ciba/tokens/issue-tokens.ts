/**
 * Makes the tokens for an approved request. The tokens are made with the classes of oidc-provider, so that they work at
 * refresh, userinfo, introspection and revocation. This module does not save the tokens: the caller gets the statements
 * that save them, and executes these statements in the transaction that redeems the request.
 */

import { type AuthorizationDetail, detailsAt } from '../../authorization-details/detail-types.ts'
import { namesOf, type Resource, type Resources, resourceAt, scopeAt } from '../../authorization-details/resources.ts'
import { OFFLINE, withoutOffline } from '../../client/metadata/offline-access.ts'
import type { Permissions, PermissionsOf } from '../../client/permissions.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import { setAuthenticationContext } from '../../openid-provider/authentication-context.ts'
import { claimsOf, permittedClaims } from '../../openid-provider/claims.ts'
import { collectWrites } from '../../openid-provider/oidc-adapter.ts'
import type { CurrentProvider, Provider } from '../../openid-provider/openid-provider.ts'
import { type ResourceServerNeeds, resourceServer } from '../../openid-provider/resource-servers.ts'
import { tokenHash } from '../../platform/jose/token-hash.ts'
import type { Statement } from '../../platform/storage/database.ts'
import { untilAborted } from '../../platform/until-aborted.ts'
import type { User, UserHooks } from '../../user/user.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import { namesOfClaims } from '../authentication-request/requested-claims.ts'

/** The token response (CIBA §10.1.1, RFC 6749 §5.1). */
export interface TokenResponse {
  access_token: string
  token_type: string
  expires_in: number
  id_token: string
  refresh_token?: string
  /** The scope of the access token: the approved scope, reduced to the scopes that its resource accepts. */
  scope: string
  /** The details that the access token contains (RFC 9396 §7). */
  authorization_details?: AuthorizationDetail[]
}

export interface Issued {
  response: TokenResponse
  /** The id of the grant under which the tokens are issued. The tokens are valid only while this grant exists. */
  grantId: string
  /** The number of seconds after which neither the access token nor the refresh token is valid any more. */
  lifetimeSeconds: number
  /** The statements that save the tokens. The tokens are not valid until these statements are executed. */
  statements: Statement[]
}

/**
 * Issues the tokens of an approved request. Scopes, claims and details that the client is no longer permitted to get
 * are left out. Resolves to undefined in each of these cases:
 * - The client, or an approved resource, does not exist any more.
 * - The client is no longer permitted to get the scope `openid`.
 * - The user does not exist or is disabled.
 * - The request is damaged (`isDamaged`).
 * @param options.pushedAs the `auth_req_id`, for a push. Only for a push, the ID token contains this id and the hashes
 *   of the other tokens (CIBA §10.3.1)
 * @param options.binding the client certificate or DPoP key to which the access token is bound
 * @param options.signal ends the wait for the user; the promise then rejects with the reason of the signal
 * @param options.resource the approved resource that the access token is for. Default: the first
 * @param options.details the approved details that the access token contains. Default: all
 */
export type IssueTokens = (
  request: AuthenticationRequest,
  options?: Share & { pushedAs?: string; binding?: Confirmation; signal?: AbortSignal },
) => Promise<Issued | undefined>

/** The part of the approval that the access token is for. The refresh token is for the whole approval. */
interface Share {
  resource?: string | undefined
  details?: AuthorizationDetail[] | undefined
}

/** Returns the function that issues tokens with the current oidc-provider. */
export function createIssueTokens(
  currentProvider: CurrentProvider,
  findUser: UserHooks['find'],
  permissionsOf: PermissionsOf,
  known: ResourceServerNeeds,
): IssueTokens {
  return async (approved, { pushedAs, binding = {}, signal, ...asked } = {}) => {
    const provider = currentProvider()
    const client = await provider.Client.find(approved.clientId)
    const permissions = await permissionsOf(approved.clientId)
    const finding = findUser(approved.userId)
    const user = await (signal === undefined ? finding : untilAborted(finding, signal))
    if (client === undefined || permissions === undefined || user === null || user.disabled) return undefined
    if (approved.isDamaged) return undefined
    const request = withoutWithdrawn(approved, permissions)
    if (!request.scope.split(' ').includes('openid')) return undefined
    const share = { ...asked, details: asked.details?.filter(permissions.mayHaveDetail) }
    // No token is issued if an approved resource was removed from the configuration. A token without this audience
    // would be valid for more than the user approved.
    if (request.resources?.some((address) => resourceAt(known.resources, address) === undefined)) return undefined

    const [issued, statements] = await collectWrites(request.id, async () => {
      const tokens = await issueAccess(provider, request, client, binding, share, known)
      const idToken = await issueIdToken(provider, request, client, user, { ...tokens, pushedAs })
      const { accessToken, refreshToken, expiresIn, tokenType, scope, details, grantId, lifetimeSeconds } = tokens
      const response: TokenResponse = {
        access_token: accessToken,
        token_type: tokenType,
        expires_in: expiresIn,
        id_token: idToken,
        ...(refreshToken !== undefined && { refresh_token: refreshToken }),
        scope,
        ...(details !== undefined && { authorization_details: details }),
      }
      return { response, grantId, lifetimeSeconds }
    })
    return { ...issued, statements }
  }
}

/**
 * Returns a request without those scopes, claims and details that its client is no longer permitted to get. The
 * remaining scopes, claims and details are all or a part of those that the user approved.
 */
function withoutWithdrawn(request: AuthenticationRequest, permissions: Permissions): AuthenticationRequest {
  const { scope, claims, approvedDetails, ...rest } = request
  const details = approvedDetails?.filter(permissions.mayHaveDetail) ?? []
  const permitted = claims && permittedClaims(claims, permissions.mayHaveClaim)
  return {
    ...rest,
    scope: scope.split(' ').filter(permissions.mayHaveScope).join(' '),
    ...(permitted !== undefined && { claims: permitted }),
    ...(details.length > 0 && { approvedDetails: details }),
  }
}

type OidcClient = NonNullable<Awaited<ReturnType<Provider['Client']['find']>>>

/** These claims are also in each ID token that the client gets by a refresh. */
const authenticationClaims = { acr: null, amr: null, auth_time: null }

/**
 * The number of seconds by which the lifetime of a grant without a refresh token exceeds that of its access token. The
 * access token is made after the grant, and is valid only while the grant exists. A grant with a refresh token has the
 * usual lifetime of grants.
 */
const grantMarginSeconds = 5

async function issueAccess(
  provider: Provider,
  request: AuthenticationRequest,
  client: OidcClient,
  binding: Confirmation,
  share: Share,
  { resources, tokens }: ResourceServerNeeds,
) {
  const { userId: accountId } = request
  const [address, resource] =
    approvedResources(request, resources).find(([address]) => address === (share.resource ?? address)) ?? []
  const wantsRefresh = request.scope.split(' ').includes(OFFLINE) && client.grantTypeAllowed('refresh_token')
  // A client without the grant `refresh_token` gets no refresh token, so `offline_access` is not granted (OpenID
  // Connect Core §11).
  const scope = wantsRefresh ? request.scope : withoutOffline(request.scope)
  const grant = new provider.Grant({
    accountId,
    clientId: client.clientId,
    ...(!wantsRefresh && { expiresIn: (resource?.accessTtl ?? tokens.accessTtl) + grantMarginSeconds }),
  } as never)
  grant.addOIDCScope(scope)
  grant.addOIDCClaims([...new Set([...Object.keys(authenticationClaims), ...namesOfClaims(request.claims)])])
  for (const [address, resource] of approvedResources(request, resources)) {
    grant.addResourceScope(address, scopeAt(resource, scope))
  }
  for (const detail of request.approvedDetails ?? []) grant.addRar(detail as never)
  const grantId = await grant.save()

  const common = { accountId, client, grantId, gty: 'ciba', scope }
  const bound = {
    ...(binding.certificate !== undefined && { 'x5t#S256': binding.certificate }),
    ...(binding.dpopKey !== undefined && { jkt: binding.dpopKey }),
  }
  const granted = share.details ?? request.approvedDetails ?? []
  const details = noneIfEmpty(resource === undefined ? granted : detailsAt(granted, namesOf(address!, resource)))
  const access = new provider.AccessToken({
    ...common,
    ...bound,
    ...(details !== undefined && { rar: details }),
    // The userinfo endpoint reads the requested claims from the access token. It does not accept tokens for a resource.
    ...(resource === undefined && request.claims !== undefined && { claims: request.claims }),
    ...(resource !== undefined && {
      scope: scopeAt(resource, scope),
      resourceServer: new provider.ResourceServer(address!, resourceServer(resource, tokens)),
    }),
  } as never)
  // Sets `acr`, `amr` and `auth_time` of the access token. After a refresh, the new access token gets these claims from
  // the refresh token.
  setAuthenticationContext(access, request.authentication)
  const accessToken = await access.save()

  const { acr, amr, authTime } = request.authentication
  const refresh = wantsRefresh
    ? new provider.RefreshToken({
        ...common,
        acr,
        amr,
        authTime,
        rotations: 0,
        ...(request.resources !== undefined && { resource: request.resources }),
        ...(request.approvedDetails !== undefined && { rar: request.approvedDetails }),
        claims: { ...request.claims, id_token: { ...authenticationClaims, ...request.claims?.id_token } },
      } as never)
    : undefined
  const refreshToken = await refresh?.save()

  return {
    grantId,
    accessToken,
    refreshToken,
    expiresIn: access.expiration,
    lifetimeSeconds: Math.min(grant.expiration, Math.max(access.expiration, refresh?.expiration ?? 0)),
    tokenType: access.tokenType,
    scope: access.scope ?? scope,
    details,
    // The userinfo endpoint does not accept an access token for a resource.
    isForResource: resource !== undefined,
  }
}

const noneIfEmpty = <Member>(list: readonly Member[]) => (list.length > 0 ? [...list] : undefined)

function approvedResources({ resources = [] }: AuthenticationRequest, known: Resources): [string, Resource][] {
  return resources.map((address) => [address, resourceAt(known, address)!])
}

async function issueIdToken(
  provider: Provider,
  request: AuthenticationRequest,
  client: OidcClient,
  user: User,
  issued: {
    accessToken: string
    refreshToken: string | undefined
    pushedAs: string | undefined
    isForResource: boolean
  },
): Promise<string> {
  const available = { ...claimsOf(user), sub: request.userId }
  const made = new provider.IdToken(available as never, { client, ctx: undefined as never })
  const idToken = made as typeof made & { scope: string; mask: object | undefined }
  // The userinfo endpoint returns the claims of the scopes other than `openid` (OpenID Connect Core §5.4). If that
  // endpoint does not accept the access token, the ID token contains these claims.
  idToken.scope = issued.isForResource ? request.scope : 'openid'
  idToken.mask = request.claims?.id_token
  // `acr`, `amr` and `auth_time` are included whenever they are known, even if they were not requested.
  const { acr, amr, authTime } = request.authentication
  for (const [claim, value] of Object.entries({ acr, amr, auth_time: authTime })) {
    if (value !== undefined) idToken.set(claim, value)
  }
  if (issued.pushedAs !== undefined) {
    const algorithm = client.idTokenSignedResponseAlg ?? 'ES256'
    idToken.set('at_hash', issued.accessToken)
    idToken.set('urn:openid:params:jwt:claim:auth_req_id', issued.pushedAs)
    if (issued.refreshToken !== undefined) {
      idToken.set('urn:openid:params:jwt:claim:rt_hash', tokenHash(issued.refreshToken, algorithm))
    }
  }
  return idToken.issue({ use: 'idtoken' })
}
