/** oidc-provider's configuration for resource indicators (RFC 8707) and authorization details (RFC 9396). */
import { type Configuration, errors, type KoaContextWithOIDC, type ResourceServer } from 'oidc-provider'
import { type AuthorizationDetail, type DetailTypes, detailsAt } from '../authorization-details/detail-types.ts'
import { areDetails, parseDetails } from '../authorization-details/read-details.ts'
import { namesOf, type Resource, type Resources, resourceAt } from '../authorization-details/resources.ts'

type Features = NonNullable<Configuration['features']>

export interface ResourceServerNeeds {
  resources: Resources
  tokens: { accessTtl: number; idTokenAlg: string; scopes: readonly string[] }
}

/** Converts a resource to oidc-provider's format. */
export function resourceServer(
  { scopes, audience, accessTtl, accessTokenFormat }: Resource,
  tokens: ResourceServerNeeds['tokens'],
): ResourceServer {
  return {
    scope: (scopes ?? tokens.scopes).join(' '),
    audience,
    accessTokenTTL: accessTtl ?? tokens.accessTtl,
    accessTokenFormat: accessTokenFormat ?? 'opaque',
    // JWT access tokens are signed with `tokens.idTokenAlg`, whatever algorithm the client registered for its ID
    // tokens.
    ...(accessTokenFormat === 'jwt' && { jwt: { sign: { alg: tokens.idTokenAlg as 'ES256' } } }),
  }
}

/**
 * Stands for "no resource". If a request contains `authorization_details`, oidc-provider requires a resource, although
 * RFC 9396 does not. A list with an empty string satisfies oidc-provider. Later oidc-provider passes this list to
 * `defaultResource`, which then returns the resource to use.
 */
const noResourceNamed = ['']

/**
 * Returns the configuration of resource indicators. A refreshed token is for one resource: the one in the client's
 * `resource` parameter. If the parameter is missing, it is the first approved resource. If no resource was approved,
 * the token is for no resource.
 */
export function resourceIndicators({ resources, tokens }: ResourceServerNeeds): Features['resourceIndicators'] {
  return {
    enabled: true,
    useGrantedResource: () => true,
    defaultResource: (ctx, _client, oneOf) => {
      if (oneOf === undefined) {
        const hasDetails = atTokenEndpoint(ctx) && ctx.oidc.params?.authorization_details !== undefined
        return (hasDetails ? noResourceNamed : undefined) as never
      }
      if (oneOf === noResourceNamed) return approvedResourcesOf(ctx)[0] as never
      const named = (ctx.oidc.params?.resource ?? undefined) !== undefined
      return named ? oneOf : oneOf[0]!
    },
    getResourceServerInfo: (ctx, address) => {
      // Here, a resource is accepted only at the token endpoint, not at the authorization endpoint. Clients request new
      // resources at the backchannel authentication endpoint.
      const resource = resourceAt(resources, address)
      if (!atTokenEndpoint(ctx) || resource === undefined) throw new errors.InvalidTarget()
      return resourceServer(resource, tokens)
    },
  }
}

/**
 * Returns the configuration of authorization details. A refreshed token contains the details that the client requests
 * from the granted details (RFC 9396 §6). If the client requests none, the token contains all granted details.
 */
export function richAuthorizationRequests({
  details,
  resources,
}: {
  details: DetailTypes
  resources: Resources
}): object {
  const type = {
    validate: (ctx: KoaContextWithOIDC, detail: object) => {
      if (!atTokenEndpoint(ctx)) {
        throw new errors.InvalidAuthorizationDetails(
          'send authorization_details to the backchannel authentication endpoint',
        )
      }
      if (!details.fits(detail as AuthorizationDetail)) {
        throw new errors.InvalidAuthorizationDetails('authorization_details has an entry that is invalid for its type')
      }
    },
  }
  return {
    enabled: details.names.length > 0,
    types: Object.fromEntries(details.names.map((name) => [name, type])),
    authorizationDetailsForGrantSource: (_ctx: KoaContextWithOIDC, source: object) => rarOf(source),
    authorizationDetailsForAccessToken: (ctx: KoaContextWithOIDC, token: AccessTokenFor, source?: object) => {
      const granted = rarOf(source) ?? []
      const asked = ctx.oidc.params?.authorization_details
      const forItsService = (wanted: AuthorizationDetail[]) => ownOf(token, wanted, resources)
      if (asked === undefined) return forItsService(granted)
      const wanted = parseDetails(String(asked))
      if (!areDetails(wanted) || !details.covers(granted, wanted)) {
        throw new errors.InvalidAuthorizationDetails('authorization_details exceeds what was granted')
      }
      return forItsService(wanted)
    },
    authorizationDetailsForIntrospection: (_ctx: KoaContextWithOIDC, token: object) => rarOf(token),
  }
}

interface AccessTokenFor {
  resourceServer?: { identifier(): string }
}

/**
 * Returns the details whose `locations` contain the resource that the token is for, and those without `locations`. If
 * the token is for no resource, returns all details.
 */
function ownOf({ resourceServer }: AccessTokenFor, wanted: AuthorizationDetail[], resources: Resources) {
  const address = resourceServer?.identifier()
  const resource = address === undefined ? undefined : resourceAt(resources, address)
  return resource === undefined ? wanted : detailsAt(wanted, namesOf(address!, resource))
}

/** Returns the resources of the refresh token or code of a token request. */
function approvedResourcesOf(ctx: KoaContextWithOIDC): string[] {
  const { RefreshToken, AuthorizationCode } = ctx.oidc.entities
  return [(RefreshToken ?? AuthorizationCode)?.resource ?? []].flat()
}

/** Returns the authorization details of a token or grant, or undefined if it has none. */
function rarOf(carrier: object | undefined): AuthorizationDetail[] | undefined {
  return (carrier as { rar?: AuthorizationDetail[] } | undefined)?.rar
}

function atTokenEndpoint(ctx: KoaContextWithOIDC): boolean {
  return ctx.oidc.route === 'token'
}
