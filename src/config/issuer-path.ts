/** The rule for the path of an issuer: `/tenants/bank` in `https://id.example.com/tenants/bank`. */

/**
 * What the paths of this server begin with. Because a proxy may remove the path of the issuer, a path that begins like
 * one of these would be ambiguous: is `/oauth/token` the token endpoint of the issuer `https://id.example.com/oauth`, or
 * `/token` below this issuer?
 */
export const ownSegments: readonly string[] = [
  '.well-known',
  'activity',
  'approve',
  'assets',
  'backchannel',
  'demo',
  'dev',
  'events',
  'health',
  'manifest.webmanifest',
  'metrics',
  'notifications',
  'oauth',
  'passkeys',
  'service-worker.js',
  'session',
  'sessions',
  'sign-in',
  'user-code',
]

/** Returns what is wrong with the path of an address, or undefined if it is valid. The path may be empty. */
export function issuerPathProblem(address: string): string | undefined {
  const { pathname } = new URL(address)
  if (pathname === '/') return undefined
  if (!/^(\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+\/?$/.test(pathname)) {
    return 'must have a path of letters, digits, "-", ".", "_", "~" and single slashes only'
  }
  const first = pathname.split('/')[1]!
  return ownSegments.includes(first)
    ? `must have a path that does not begin with /${first}, because paths of this server begin with it`
    : undefined
}
