/** The flows that every foreign client must run. The check fails if a client omits a flow or runs it twice. */
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
