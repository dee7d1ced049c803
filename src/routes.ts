/** The addresses of the server. */
import { discoveryPaths } from './openid-provider/forwarded-endpoint.ts'
import { paths } from './openid-provider/paths.ts'

/** The CIBA addresses; those of everything else are in `openid-provider/`. */
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

/** What clients call. What is not here leads users to their decision, which is worth more than a poll. */
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

/** Never refused for others: whoever looks after the server, and pages that listen, of which there is a limit. */
export const routesNeverRefused = ['/health/live', '/health/ready', '/metrics', '/events', '/demo/events']

/** What a client with a certificate calls, all but where users go (ML-12). */
export function aliasesAt(address: string) {
  return {
    token_endpoint: address + paths.token,
    backchannel_authentication_endpoint: address + endpoints.backchannel,
    userinfo_endpoint: address + paths.userinfo,
    introspection_endpoint: address + paths.introspection,
    revocation_endpoint: address + paths.revocation,
  }
}
