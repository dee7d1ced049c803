/** The routes of oidc-provider for which this server has no endpoint of its own. */
import type { FastifyInstance } from 'fastify'
import type { ForwardToOidcProvider } from './oidc-call.ts'
import type { CurrentProvider, Provider } from './openid-provider.ts'

/**
 * oidc-provider's names for its routes. The configuration determines which of these routes exist, and at which paths,
 * because an operator may enable features and change paths. CIBA and registration are not in this list, because this
 * server has its own endpoints for them.
 */
const names = [
  'authorization',
  'token',
  'userinfo',
  'jwks',
  'revocation',
  'introspection',
  'end_session',
  'end_session_confirm',
  'end_session_success',
  'pushed_authorization_request',
  'device_authorization',
  'code_verification',
  'challenge',
] as const

/** Routes to which a user's browser returns from an interaction. Their paths end with the id of the interaction. */
const namesWithUid = ['resume', 'device_resume'] as const

/** The paths of the metadata document. oidc-provider gives both routes the name `discovery`. */
export const discoveryPaths = ['/.well-known/openid-configuration', '/.well-known/oauth-authorization-server']

/**
 * Adds each route of oidc-provider for which `app` has no endpoint yet. Each path gets a route of its own. A wildcard
 * route would also forward other spellings of a path, because the router of oidc-provider accepts them.
 */
export function forwardedEndpoint(
  app: FastifyInstance,
  provider: CurrentProvider,
  forwardToOidcProvider: ForwardToOidcProvider,
): void {
  const paths = [
    ...names.map((name) => providerPath(provider(), name)),
    ...resumePathsOf(provider()),
    ...discoveryPaths,
  ].filter((path) => path !== undefined)
  for (const path of paths) {
    const method = app.supportedMethods.filter((method) => !app.hasRoute({ url: path, method }))
    if (method.length > 0) app.route({ method, url: path, handler: forwardToOidcProvider })
  }
}

/** Returns the paths to which a user's browser returns from an interaction. Each ends with `:uid`. */
export function resumePathsOf(provider: Provider): string[] {
  return namesWithUid.flatMap((name) => providerPath(provider, name, 'uid')?.replace(/[^/]+$/, ':uid') ?? [])
}

/** Returns the path of a route of oidc-provider, or undefined if its feature is not enabled. */
export function providerPath(provider: Provider, name: string, uid?: string): string | undefined {
  try {
    return provider.pathFor(name, { mountPath: '', uid })
  } catch {
    return undefined
  }
}
