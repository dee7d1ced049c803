/** The challenge of a 401, in the header `WWW-Authenticate` (RFC 9110 §15.5.2). */
import type { OAuthErrorCode } from '../oauth-error.ts'

const clientChallenge = 'Basic realm="doorbell", charset="UTF-8"'

/**
 * The challenge of a page that needs a session cookie. No standard defines a scheme for cookies. Browsers ignore
 * unknown schemes and show the page. For `Basic`, browsers would show their own password dialog.
 */
export const sessionChallenge = 'Cookie realm="doorbell"'

/**
 * Returns the challenge for an error, or undefined if the response must not contain a challenge.
 *
 * The error `invalid_client` has a challenge only if the client sent an `Authorization` header (RFC 6749 §5.2). Other
 * authentication methods have no HTTP scheme. If their response contained the challenge `Basic`, a browser would show a
 * password dialog, and openid-client would hide the error code.
 *
 * All other errors have the challenge `Bearer`. It contains the error code only if the call had an `Authorization`
 * header (RFC 6750 §3.1).
 */
export function challengeFor(code: OAuthErrorCode, authorization: string | undefined): string | undefined {
  if (code === 'invalid_client') return authorization === undefined ? undefined : clientChallenge
  return authorization === undefined ? 'Bearer realm="doorbell"' : `Bearer realm="doorbell", error="${code}"`
}
