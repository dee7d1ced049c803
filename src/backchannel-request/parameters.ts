/** What the client asks: the form, read once. A signed request will yield the very same type. */
import type { SentHint } from '../user-hint/find-user.ts'

/** The parameters of CIBA Core §7.1, as sent. The rules decide whether they may be so. */
export interface Asked {
  scope: string | undefined
  hints: SentHint[]
  notificationToken: string | undefined
  acrValues: string | undefined
  bindingMessage: string | undefined
  requestedExpiry: string | undefined
  /** A signed authentication request (§7.1.1). Its place: it is read here once it is supported. */
  signedRequest: string | undefined
}

const hintKinds = ['login_hint', 'id_token_hint', 'login_hint_token'] as const

/**
 * Reads the form. Whatever it does not know it leaves alone (VL-7), `user_code` too: this provider does not announce
 * support for it, so nobody has one (UC-1). A form value that was empty is not in the form at all (RQ-9).
 */
export function readParameters(form: ReadonlyMap<string, string>): Asked {
  return {
    scope: form.get('scope'),
    hints: hintKinds.flatMap((kind) => {
      const value = form.get(kind)
      return value === undefined ? [] : [{ kind, value }]
    }),
    notificationToken: form.get('client_notification_token'),
    acrValues: form.get('acr_values'),
    bindingMessage: form.get('binding_message'),
    requestedExpiry: form.get('requested_expiry'),
    signedRequest: form.get('request'),
  }
}
