/**
 * What a client may have now. After tokens were issued, the operator may withdraw scopes, grants and types of
 * authorization details from a client, or resources from the server. So a permission is checked at each use of a token,
 * and not only when the token is issued.
 */
import type { AuthorizationDetail } from '../authorization-details/detail-types.ts'
import { namesOf, type Resources, resourceAt } from '../authorization-details/resources.ts'
import type { Client } from './client.ts'
import { OFFLINE } from './metadata/offline-access.ts'

/** What the configuration of the server allows to clients. */
export interface Offered {
  /** All scopes of the server. */
  scopes: readonly string[]
  /** The scopes of a client that has registered no scopes. */
  defaultScopes: readonly string[]
  /** For each claim, the scopes that contain it. An empty list means that the claim needs no scope. */
  claims: ReadonlyMap<string, readonly string[]>
  resources: Resources
  /** The types of authorization details. */
  detailTypes: readonly string[]
  /**
   * Whether the operator's own code defines resources or types of authorization details. If so, this server does not
   * know all of them.
   */
  isExtended: { resources: boolean; details: boolean }
}

/** What a client may have now. */
export interface Permissions {
  mayHaveScope(scope: string): boolean
  /** Whether the client may have a claim that it requests by its name (OpenID Connect Core §5.5). */
  mayHaveClaim(claim: string): boolean
  mayHaveDetail(detail: AuthorizationDetail): boolean
  /** Whether the server has a resource with this address. */
  isResource(address: string): boolean
  /** Whether a token with this audience may have the scope: a resource with this audience accepts the scope. */
  isAccepted(scope: string, audience: string): boolean
  /** Whether the server has a resource with this audience. */
  isAudience(audience: string): boolean
  /** Whether the client may use refresh tokens. */
  mayRefresh: boolean
}

/** Resolves to what a client may have now, or to undefined if there is no such client. */
export type PermissionsOf = (clientId: string) => Promise<Permissions | undefined>

/** @param findClient is called for each token, so it should read from memory */
export function createPermissionsOf(
  findClient: (id: string) => Promise<Pick<Client, 'metadata'> | undefined>,
  offered: Offered,
): PermissionsOf {
  return async (clientId) => {
    const client = await findClient(clientId)
    return client && permissionsOf(client, offered)
  }
}

function permissionsOf({ metadata }: Pick<Client, 'metadata'>, offered: Offered): Permissions {
  const { scopes, defaultScopes, claims, resources, detailTypes, isExtended } = offered
  const registered = metadata.scope?.split(' ') ?? defaultScopes
  const detailNames = metadata.authorization_details_types

  // `scopes` does not contain the scopes of resources that the operator's code defines. Clients do not register these
  // scopes. So, if the operator's code defines resources, every unknown scope is allowed.
  const mayHaveScope = (scope: string) => (scopes.includes(scope) ? registered.includes(scope) : isExtended.resources)

  const resourcesFor = (audience: string) =>
    Object.entries(resources).filter(([address, resource]) => namesOf(address, resource).includes(audience))

  return {
    mayHaveScope,
    mayHaveClaim(claim) {
      const containing = claims.get(claim)
      return containing !== undefined && (containing.length === 0 || containing.some(mayHaveScope))
    },
    mayHaveDetail: ({ type }) =>
      (isExtended.details || detailTypes.includes(type)) && (detailNames?.includes(type) ?? true),
    isResource: (address) => isExtended.resources || resourceAt(resources, address) !== undefined,
    isAccepted: (scope, audience) =>
      isExtended.resources || resourcesFor(audience).some(([, resource]) => resource.scopes?.includes(scope) ?? true),
    isAudience: (audience) => isExtended.resources || resourcesFor(audience).length > 0,
    mayRefresh: metadata.grant_types.includes('refresh_token') && scopes.includes(OFFLINE),
  }
}
