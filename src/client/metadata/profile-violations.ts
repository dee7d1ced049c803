/** What a deployment's profile does not allow a client. */
import { type Profile, profiles } from '../../platform/security-profile.ts'
import type { ClientMetadata } from './client-metadata.ts'

const mode = 'backchannel_token_delivery_mode'
const method = 'token_endpoint_auth_method'
const dpopBound = 'dpop_bound_access_tokens'

/** One of them, and the member it is about. */
export interface Breach {
  about: keyof ClientMetadata
  says: string
}

/** What of a client its deployment's profile does not allow, each named with the clause. A client may have been registered before there was one. */
export function breachesOf(client: ClientMetadata, profile: Profile): Breach[] {
  const rings = client[mode] !== undefined
  const may = (
    name: keyof ClientMetadata,
    allowedBy: (profile: Profile) => readonly string[],
    clause: string,
  ): Breach[] => {
    const value = String(client[name])
    // What no profile allows is complained about anyway.
    if (allowedBy(profile).includes(value) || !allowedBy(profiles.core).includes(value)) return []
    const says = `${name} must be ${orOf(allowedBy(profile))}, because the profile is ${profile.name} (${clause})`
    return [{ about: name, says }]
  }
  const bound = 'tls_client_certificate_bound_access_tokens'
  const signing = 'backchannel_authentication_request_signing_alg'
  const unsigned = rings && profile.signedRequestsOnly && client[signing] === undefined
  const unbound = profile.boundTokensOnly && client[bound] === false && client[dpopBound] !== true
  return [
    ...(unbound
      ? [
          {
            about: bound,
            says: `${bound} must be true, or ${dpopBound} be, because the profile is ${profile.name} (FI-2)`,
          } as const,
        ]
      : []),
    ...may(mode, (allows) => allows.deliveryModes, 'FC-4'),
    ...may(method, (allows) => allows.clientAuthentication, 'FI-1'),
    ...may('token_endpoint_auth_signing_alg', (allows) => allows.clientSigning, 'FC-15'),
    ...may('id_token_signed_response_alg', (allows) => allows.idTokenSigning, 'FC-15'),
    ...may(signing, (allows) => allows.clientSigning, 'FC-15'),
    ...(unsigned
      ? [
          {
            about: signing,
            says: `${signing} is missing; the profile ${profile.name} wants every request signed: ${orOf(profile.clientSigning)} (FC-7)`,
          } as const,
        ]
      : []),
  ]
}

/** `a, b or c`. */
export function orOf(words: readonly string[]): string {
  return words.length === 1 ? words[0]! : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}
