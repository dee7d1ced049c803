/** The challenge of a 401, in the header `WWW-Authenticate` (RFC 9110 §15.5.2). */
import type { OAuthErrorCode } from '../oauth-error.ts'

const clientChallenge = 'Basic realm="doorbell", charset="UTF-8"'

/**
 * For browsers: a page needs the cookie of a session. No standard names a scheme for cookies. Browsers ignore schemes that they
 * do not know, and show the page; for `Basic` they would show a dialog of their own.
 */
export const sessionChallenge = 'Cookie realm="doorbell"'

/**
 * Returns the challenge for an error, or undefined if there is none. A call without credentials gets no error code (RFC 6750
 * §3.1). A client that sent no `Authorization` header gets no challenge (RFC 6749 §5.2): its method has no HTTP authentication
 * scheme, for `Basic` a browser would show a dialog, and openid-client would hide the error code.
 */
export function challengeFor(code: OAuthErrorCode, authorization: string | undefined): string | undefined {
  if (code === 'invalid_client') return authorization === undefined ? undefined : clientChallenge
  return authorization === undefined ? 'Bearer realm="doorbell"' : `Bearer realm="doorbell", error="${code}"`
}
