/**
 * Tokens for an approved request, made by oidc-provider's own classes, so that refresh, userinfo, introspection and
 * revocation know them. Nothing is saved here: the caller gets what is to be written, and writes it in the one step
 * that redeems the request.
 */

import { type AuthorizationDetail, detailsAt } from '../../authorization-details/detail-types.ts'
import { knows, namesOf, type Resource, type Resources, scopeAt } from '../../authorization-details/resources.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import { claimsOf } from '../../openid-provider/claims.ts'
import { collectWrites } from '../../openid-provider/oidc-adapter.ts'
import type { CurrentProvider, Provider } from '../../openid-provider/openid-provider.ts'
import { type ResourceServerNeeds, resourceServer } from '../../openid-provider/resource-servers.ts'
import { tokenHash } from '../../platform/jose/token-hash.ts'
import type { Statement } from '../../platform/storage/database.ts'
import type { User, UserHooks } from '../../user/user.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'

export interface TokenResponse {
  access_token: string
  token_type: string
  expires_in: number
  id_token: string
  refresh_token?: string
  /** Of the access token: less than was approved where its resource understands less (RI-5). */
  scope: string
  /** As granted (RFC 9396 §7). */
  authorization_details?: AuthorizationDetail[]
}

export interface Issued {
  response: TokenResponse
  /** What makes the tokens real. */
  statements: Statement[]
}

/**
 * Answers nothing if the user or the client is gone or disabled, or a resource is: then there is nothing to make tokens for.
 * @param options.pushedAs the `auth_req_id` under which the tokens will be pushed; the ID token vouches for it then,
 *   and for the other tokens (PU-4). Otherwise it does not: those claims belong to push (M13)
 * @param options.binding whose key the access token is bound to
 * @param options.resource what the access token is for, of the resources that were approved: the first unless told
 * @param options.details what the access token carries of the details that were approved: all unless told
 */
export type IssueTokens = (
  request: AuthenticationRequest,
  options?: Share & { pushedAs?: string; binding?: Confirmation },
) => Promise<Issued | undefined>

/** Of what was approved. Its refresh token stands for all of it. */
interface Share {
  resource?: string | undefined
  details?: AuthorizationDetail[] | undefined
}

export function createIssueTokens(
  currentProvider: CurrentProvider,
  findUser: UserHooks['find'],
  known: ResourceServerNeeds,
): IssueTokens {
  return async (request, { pushedAs, binding = {}, ...share } = {}) => {
    const provider = currentProvider()
    const client = await provider.Client.find(request.clientId)
    const user = await findUser(request.userId)
    if (client === undefined || user === null || user.disabled) return undefined
    // A token without its audience would be good for more than was approved.
    if (request.resources?.some((address) => !knows(known.resources, address))) return undefined

    const [response, statements] = await collectWrites(request.id, async () => {
      const tokens = await issueAccess(provider, request, client, binding, share, known)
      const idToken = await issueIdToken(provider, request, client, user, { ...tokens, pushedAs })
      const { accessToken, refreshToken, expiresIn, tokenType, scope, details } = tokens
      return {
        access_token: accessToken,
        token_type: tokenType,
        expires_in: expiresIn,
        id_token: idToken,
        ...(refreshToken !== undefined && { refresh_token: refreshToken }),
        scope,
        ...(details !== undefined && { authorization_details: details }),
      }
    })
    return { response, statements }
  }
}

type OidcClient = NonNullable<Awaited<ReturnType<Provider['Client']['find']>>>

/** Claims that a refreshed ID token repeats (RT-3). */
const alwaysSaid = { acr: null, amr: null, auth_time: null }

/**
 * Seconds that a grant is kept longer than the one access token it is for, which is made after it and is good for nothing
 * without it. One that can be refreshed lives as long as other grants.
 */
const afterItsToken = 5

async function issueAccess(
  provider: Provider,
  request: AuthenticationRequest,
  client: OidcClient,
  binding: Confirmation,
  share: Share,
  { resources, tokens }: ResourceServerNeeds,
) {
  const { userId: accountId, scope } = request
  const [address, resource] =
    approvedResources(request, resources).find(([address]) => address === (share.resource ?? address)) ?? []
  const wantsRefresh = scope.split(' ').includes('offline_access') && client.grantTypeAllowed('refresh_token')
  const grant = new provider.Grant({
    accountId,
    clientId: client.clientId,
    ...(!wantsRefresh && { expiresIn: (resource?.accessTtl ?? tokens.accessTtl) + afterItsToken }),
  } as never)
  grant.addOIDCScope(scope)
  grant.addOIDCClaims(Object.keys(alwaysSaid))
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
  const granted = share.details ?? request.approvedDetails
  const details = resource === undefined ? granted : detailsFor(resource, address!, granted)
  const access = new provider.AccessToken({
    ...common,
    ...bound,
    ...(details !== undefined && { rar: details }),
    ...(resource !== undefined && {
      scope: scopeAt(resource, scope),
      resourceServer: new provider.ResourceServer(address!, resourceServer(resource, tokens)),
    }),
  } as never)
  const accessToken = await access.save()

  const { acr, amr, authTime } = request.authentication
  const refreshToken = wantsRefresh
    ? await new provider.RefreshToken({
        ...common,
        acr,
        amr,
        authTime,
        rotations: 0,
        ...(request.resources !== undefined && { resource: request.resources }),
        ...(request.approvedDetails !== undefined && { rar: request.approvedDetails }),
        claims: { id_token: alwaysSaid },
      } as never).save()
    : undefined

  return {
    accessToken,
    refreshToken,
    expiresIn: access.expiration,
    tokenType: access.tokenType,
    scope: access.scope ?? scope,
    details,
    // Such a token is not for userinfo.
    isForResource: resource !== undefined,
  }
}

/** A service hears of what is its own business (RA-7). */
function detailsFor(resource: Resource, address: string, granted: readonly AuthorizationDetail[] = []) {
  const details = detailsAt(granted, namesOf(address, resource))
  return details.length > 0 ? details : undefined
}

function approvedResources({ resources = [] }: AuthenticationRequest, known: Resources): [string, Resource][] {
  return resources.map((address) => [address, known[address]!])
}

async function issueIdToken(
  provider: Provider,
  request: AuthenticationRequest,
  client: OidcClient,
  user: User,
  authenticationContextOf: {
    accessToken: string
    refreshToken: string | undefined
    pushedAs: string | undefined
    isForResource: boolean
  },
): Promise<string> {
  const available = { ...claimsOf(user), sub: request.userId }
  const made = new provider.IdToken(available as never, { client, ctx: undefined as never })
  const idToken = made as typeof made & { scope: string }
  // With an access token the user's other claims are at userinfo, by scope (OpenID Connect Core §5.4), if it is good there.
  idToken.scope = authenticationContextOf.isForResource ? request.scope : 'openid'
  // How the user was authenticated is said whenever it is known, asked for or not (RQ-4).
  const { acr, amr, authTime } = request.authentication
  for (const [claim, value] of Object.entries({ acr, amr, auth_time: authTime })) {
    if (value !== undefined) idToken.set(claim, value)
  }
  if (authenticationContextOf.pushedAs !== undefined) {
    const algorithm = client.idTokenSignedResponseAlg ?? 'ES256'
    idToken.set('at_hash', authenticationContextOf.accessToken)
    idToken.set('urn:openid:params:jwt:claim:auth_req_id', authenticationContextOf.pushedAs)
    if (authenticationContextOf.refreshToken !== undefined) {
      idToken.set('urn:openid:params:jwt:claim:rt_hash', tokenHash(authenticationContextOf.refreshToken, algorithm))
    }
  }
  return idToken.issue({ use: 'idtoken' })
}
