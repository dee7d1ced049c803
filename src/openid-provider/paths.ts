/** The paths of oidc-provider, and the names of its cookies. */
import { cookieNaming } from '../platform/http/cookie-names.ts'

/** The paths of oidc-provider's endpoints: the same paths as in Doorkeeper. */
export const paths = {
  authorization: '/oauth/authorize',
  token: '/oauth/token',
  userinfo: '/oauth/userinfo',
  introspection: '/oauth/introspect',
  revocation: '/oauth/revoke',
  jwks: '/oauth/jwks',
  end_session: '/oauth/logout',
  registration: '/oauth/register',
} as const

/** Returns the names of the cookies. The cookies of an interaction have the path of one sign-in. */
export function cookieNames(issuer: string) {
  const { prefix, prefixBelowPath, suffix } = cookieNaming(issuer)
  return {
    session: `${prefix}doorbell_session${suffix}`,
    interaction: `${prefixBelowPath}doorbell_interaction${suffix}`,
    resume: `${prefixBelowPath}doorbell_resume${suffix}`,
  }
}
