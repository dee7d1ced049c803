/** The addresses that are oidc-provider's alone: those it has itself, and we have no endpoint for. */
import type { FastifyInstance } from 'fastify'
import type { ForwardToOidcProvider } from './forward-request.ts'
import type { CurrentProvider, Provider } from './openid-provider.ts'

/**
 * What it calls its routes. Which of them exist, and where, is up to the configuration: an operator may have switched
 * features on, and moved them. (CIBA and registration are ours.)
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

/** Those to which a user comes back; their address ends in the id of the interaction. */
const namesWithUid = ['resume', 'device_resume'] as const

/** Both are called `discovery`. */
export const discoveryPaths = ['/.well-known/openid-configuration', '/.well-known/oauth-authorization-server']

/** Adds each of them that `app` has no endpoint for yet. No pattern stands for several: its router spells generously. */
export function handedOverEndpoint(
  app: FastifyInstance,
  provider: CurrentProvider,
  forwardToOidcProvider: ForwardToOidcProvider,
): void {
  const paths = [
    ...names.map((name) => pathOf(provider(), name)),
    ...namesWithUid.map((name) => pathOf(provider(), name, 'uid')?.replace(/[^/]+$/, ':uid')),
    ...discoveryPaths,
  ].filter((path) => path !== undefined)
  for (const path of paths) {
    const method = app.supportedMethods.filter((method) => !app.hasRoute({ url: path, method }))
    if (method.length > 0) app.route({ method, url: path, handler: forwardToOidcProvider })
  }
}

function pathOf(provider: Provider, name: string, uid?: string): string | undefined {
  try {
    return provider.pathFor(name, { mountPath: '', uid })
  } catch {
    // A feature that is not switched on.
    return undefined
  }
}
