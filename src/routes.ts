/** The addresses of the server. */
import { discoveryPaths } from './openid-provider/oidc-call-endpoint.ts'
import { paths } from './openid-provider/paths.ts'

/** The paths of CIBA and of the device API. The paths of the endpoints of oidc-provider are in `openid-provider/`. */
export const endpoints = {
  backchannel: '/backchannel/authorize',
  authinfo: '/backchannel/authinfo',
  complete: '/backchannel/complete',
  passkeys: '/backchannel/passkeys',
  activity: '/backchannel/activity',
  revoke: '/backchannel/revoke',
  block: '/backchannel/block',
  pushSubscriptions: '/backchannel/push-subscriptions',
  userCode: '/backchannel/user-code',
  sessions: '/backchannel/sessions',
  clientconfig: '/backchannel/clientconfig',
} as const

export { paths }

/**
 * Routes that clients call. `limits.inFlight` limits the calls to these routes. A separate limit applies to the calls
 * to all other routes, so that polls of clients cannot delay the decisions of users.
 */
export const routesOfClients = [
  endpoints.backchannel,
  endpoints.clientconfig,
  paths.token,
  paths.userinfo,
  paths.introspection,
  paths.revocation,
  paths.registration,
  `${paths.registration}/:client_id`,
  ...discoveryPaths,
]

/**
 * Routes whose calls load shedding never refuses: the routes for operators, and the event streams of pages. The number
 * of event streams has its own limit.
 */
export const routesNeverRefused = ['/health/live', '/health/ready', '/metrics', '/events', '/demo/events']

/** Returns the `mtls_endpoint_aliases` (RFC 8705 §5): the endpoints that a client calls with its certificate. */
export function aliasesAt(address: string) {
  return {
    token_endpoint: address + paths.token,
    backchannel_authentication_endpoint: address + endpoints.backchannel,
    userinfo_endpoint: address + paths.userinfo,
    introspection_endpoint: address + paths.introspection,
    revocation_endpoint: address + paths.revocation,
  }
}
