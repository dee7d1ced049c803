/** The flows that every foreign client plays. The check fails if a client leaves a flow out or plays it twice. */
export const flows = [
  'poll',
  'poll, denied',
  'poll with private_key_jwt',
  'ping',
  'push',
  'push, denied',
  'registration',
  'signed request',
  'tls_client_auth',
  'self_signed_tls_client_auth',
  'certificate-bound tokens',
  'push with tls_client_auth',
  'DPoP',
] as const

export type Flow = (typeof flows)[number]
