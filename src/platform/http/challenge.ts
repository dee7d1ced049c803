/** The challenge of a 401, in the header `WWW-Authenticate` (RFC 9110 §15.5.2). */
import type { OAuthErrorCode } from '../oauth-error.ts'

const clientChallenge = 'Basic realm="doorbell", charset="UTF-8"'

/**
 * The challenge of a page that needs a session cookie. No standard defines a scheme for cookies. Browsers ignore
 * unknown schemes and show the page. For `Basic`, browsers would show their own password dialog.
 */
export const sessionChallenge = 'Cookie realm="doorbell"'

/**
 * Returns the challenge for an error, or undefined if there is none. If the client sent no `Authorization` header, the
 * error `invalid_client` has no challenge (RFC 6749 §5.2), because no HTTP scheme exists for its authentication method.
 * With the challenge `Basic`, a browser would show a dialog, and openid-client would hide the error code. For other
 * errors, the challenge contains the error code only if the call had this header (RFC 6750 §3.1).
 */
export function challengeFor(code: OAuthErrorCode, authorization: string | undefined): string | undefined {
  if (code === 'invalid_client') return authorization === undefined ? undefined : clientChallenge
  return authorization === undefined ? 'Bearer realm="doorbell"' : `Bearer realm="doorbell", error="${code}"`
}
