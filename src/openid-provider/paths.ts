/** The addresses of oidc-provider, and the names of its cookies. */

/** The paths are Doorkeeper's. */
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

/**
 * With https no other host and no unprotected page can set the session's cookie (`__Host-`). The other two belong to
 * one sign-in each, by their path, which leaves them the weaker prefix.
 */
export function cookieNames(issuer: string) {
  const [host, secure] = issuer.startsWith('https:') ? ['__Host-', '__Secure-'] : ['', '']
  return {
    session: `${host}doorbell_session`,
    interaction: `${secure}doorbell_interaction`,
    resume: `${secure}doorbell_resume`,
  }
}
