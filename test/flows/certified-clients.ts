/** The metadata that clients with certificates register, and the values that they send. */
import { newKey } from '../support/assertions.ts'
import type { Certified } from '../support/certificates.ts'

export const jwkOf = async ({ x5c }: Certified) => ({ ...(await newKey('c')).publicJwk, x5c: [x5c] })
export const cert = { tls_client_certificate_bound_access_tokens: true }

export const form = (client_id: string) => ({
  client_id,
  scope: 'openid offline_access',
  login_hint: 'ana',
  binding_message: 'x',
})
