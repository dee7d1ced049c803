/** The scope with which a client asks for a refresh token (OpenID Connect Core §11). */
export const OFFLINE = 'offline_access'

/** Returns a scope without `offline_access`. */
export function withoutOffline(scope: string): string {
  if (!scope.includes(OFFLINE)) return scope
  return scope
    .split(' ')
    .filter((name) => name !== OFFLINE)
    .join(' ')
}
