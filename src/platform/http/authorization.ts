/** Reads access tokens from the `Authorization` header. */

/** Returns the bearer token (RFC 6750 §2.1), or undefined if there is none. */
export function bearerOf(authorization: string | undefined): string | undefined {
  const sent = accessTokenOf(authorization)
  return sent?.scheme === 'bearer' ? sent.token : undefined
}

export interface SentAccessToken {
  /** `dpop`: the token is bound to a key, and a proof of that key must be sent with the token (RFC 9449 §7.1). */
  scheme: 'bearer' | 'dpop'
  token: string
}

/** Returns the access token, or undefined if there is none. */
export function accessTokenOf(authorization: string | undefined): SentAccessToken | undefined {
  const [, scheme, token] = /^(bearer|dpop) +(\S+)$/i.exec(authorization ?? '') ?? []
  if (scheme === undefined || token === undefined) return undefined
  return { scheme: scheme.toLowerCase() as SentAccessToken['scheme'], token }
}
