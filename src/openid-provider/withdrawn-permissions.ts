/**
 * Removes from a token all permissions that its client no longer has (`client/permissions.ts`). Every look-up of a
 * token goes through this module: at the device API, userinfo, introspection and refresh.
 */
import { type AdapterPayload, Provider } from 'oidc-provider'
import type { AuthorizationDetail } from '../authorization-details/detail-types.ts'
import { OFFLINE } from '../client/metadata/offline-access.ts'
import type { Permissions, PermissionsOf } from '../client/permissions.ts'
import { permittedClaims } from './claims.ts'

/**
 * Resolves to the content of a token or another model, without the scopes, resources, claims and details that its
 * client must not have now. Resolves to undefined if the client must not use the token at all.
 */
export type NarrowModel = (model: string, payload: AdapterPayload) => Promise<AdapterPayload | undefined>

const tokens = new Set(['AccessToken', 'RefreshToken', 'AuthorizationCode', 'DeviceCode', 'ClientCredentials'])

/**
 * Returns the function that removes withdrawn permissions from a token that was found. Models that are not tokens or
 * codes are returned unchanged.
 */
export function createNarrowModel(permissionsOf: PermissionsOf): NarrowModel {
  return async (model, payload) => {
    if (!tokens.has(model) || payload.clientId === undefined) return payload
    const permissions = await permissionsOf(payload.clientId)
    if (permissions === undefined) return payload
    // The revocation endpoint finds a token even if its client must not use the token now. Without this, such a token
    // could not be revoked, and would be valid again if the operator gave the client the permission again.
    if (isUnusable(model, payload, permissions)) return isAtRevocation() ? payload : undefined
    return narrowed(payload, permissions)
  }
}

function isUnusable(model: string, { scope, aud, resource }: AdapterPayload, permissions: Permissions): boolean {
  const { mayHaveScope, isAudience, isResource, mayRefresh } = permissions
  const scopes = scopesIn(scope)
  if (model === 'RefreshToken' && (!mayRefresh || (scopes.includes(OFFLINE) && !mayHaveScope(OFFLINE)))) return true
  if (scopes.length > 0 && !scopes.some(mayHaveScope)) return true
  if (typeof aud === 'string' && !isAudience(aud)) return true
  // A code or refresh token is unusable if none of its approved resources exists any more. Access tokens that are
  // issued for it would have no audience, and would be valid for more than the user approved.
  const resources = [resource ?? []].flat()
  return resources.length > 0 && !resources.some(isResource)
}

function narrowed(payload: AdapterPayload, permissions: Permissions): AdapterPayload {
  const { mayHaveScope, mayHaveClaim, mayHaveDetail, isResource, isAccepted } = permissions
  const { scope, aud, claims, gty, rar, resource } = payload as AdapterPayload & { rar?: AuthorizationDetail[] }
  const mayHave = (each: string) => mayHaveScope(each) && (typeof aud !== 'string' || isAccepted(each, aud))
  return {
    ...payload,
    ...(scope !== undefined && { scope: scopesIn(scope).filter(mayHave).join(' ') }),
    ...(Array.isArray(resource) && { resource: resource.filter(isResource) }),
    ...(rar !== undefined && { rar: noneIfEmpty(rar.filter(mayHaveDetail)) }),
    // A client may get a claim that it requests by name only if it may have a scope that contains the claim. This rule
    // applies only to CIBA requests.
    ...(claims !== undefined && String(gty).startsWith('ciba') && { claims: permittedClaims(claims, mayHaveClaim) }),
  } as AdapterPayload
}

function scopesIn(scope: unknown): string[] {
  return typeof scope === 'string' && scope !== '' ? scope.split(' ') : []
}

const noneIfEmpty = <Member>(list: Member[]) => (list.length > 0 ? list : undefined)

const isAtRevocation = () => Provider.ctx?.oidc?.route === 'revocation'
