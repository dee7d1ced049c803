/** The challenge in the header `WWW-Authenticate`, which every 401 must have (RFC 9110 §15.5.2). */
import type { OAuthErrorCode } from '../oauth-error.ts'

/**
 * For callers that have to authenticate as a client. It is also sent to a client that used another method, because the other
 * methods have no HTTP authentication scheme.
 */
export const clientChallenge = 'Basic realm="doorbell", charset="UTF-8"'

/**
 * For browsers: a page needs the cookie of a session. No standard names a scheme for cookies. Browsers ignore schemes that they
 * do not know, and show the page; for `Basic` they would show a dialog of their own.
 */
export const sessionChallenge = 'Cookie realm="doorbell"'

/** Returns the challenge for an error. A call without credentials gets no error code (RFC 6750 §3.1). */
export function challengeFor(code: OAuthErrorCode, authorization: string | undefined): string {
  if (code === 'invalid_client') return clientChallenge
  return authorization === undefined ? 'Bearer realm="doorbell"' : `Bearer realm="doorbell", error="${code}"`
}
