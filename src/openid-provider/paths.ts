/** The paths of oidc-provider, and the names of its cookies. */

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

/**
 * Returns the names of the cookies. With https, the prefix `__Host-` prevents other hosts and http pages from setting
 * the session cookie. The other two cookies have the path of one sign-in, but `__Host-` requires the path `/`. So they
 * have the weaker prefix `__Secure-`.
 */
export function cookieNames(issuer: string) {
  const [host, secure] = issuer.startsWith('https:') ? ['__Host-', '__Secure-'] : ['', '']
  return {
    session: `${host}doorbell_session`,
    interaction: `${secure}doorbell_interaction`,
    resume: `${secure}doorbell_resume`,
  }
}
