/** Checks client metadata against the security profile of the deployment. */
import { type Rule, type Violation, violationsOf } from '../../platform/input-rule.ts'
import { type Profile, profiles } from '../../platform/security-profile.ts'
import type { ClientMetadata } from './client-metadata.ts'

type ProfileRule = Rule<ClientMetadata, Profile, keyof ClientMetadata>

const mode = 'backchannel_token_delivery_mode'
const bound = 'tls_client_certificate_bound_access_tokens'
const dpopBound = 'dpop_bound_access_tokens'
const signing = 'backchannel_authentication_request_signing_alg'

const rules: ProfileRule[] = [
  {
    settings: [bound, dpopBound],
    requires: (client, profile) => !profile.boundTokensOnly || client[bound] !== false || client[dpopBound] === true,
    message: (_client, { name }) => `${bound} or ${dpopBound} must be true, because the profile is ${name} (FI-2)`,
  },
  oneOf(mode, ({ deliveryModes }) => deliveryModes, 'FC-4'),
  oneOf('token_endpoint_auth_method', ({ clientAuthentication }) => clientAuthentication, 'FI-1'),
  oneOf('token_endpoint_auth_signing_alg', ({ clientSigning }) => clientSigning, 'FC-15'),
  oneOf('id_token_signed_response_alg', ({ idTokenSigning }) => idTokenSigning, 'FC-15'),
  oneOf(signing, ({ clientSigning }) => clientSigning, 'FC-15'),
  {
    settings: [signing, mode],
    requires: (client, profile) =>
      !profile.signedRequestsOnly || client[mode] === undefined || client[signing] !== undefined,
    message: (_client, { name, clientSigning }) =>
      `${signing} is missing; the profile ${name} requires signed requests: ${orOf(clientSigning)} (FC-7)`,
  },
]

/** Returns a rule: if the member `name` is set, its value must be one that the profile allows. */
function oneOf(
  name: keyof ClientMetadata,
  allowedBy: (profile: Profile) => readonly string[],
  clause: string,
): ProfileRule {
  return {
    settings: [name],
    requires: (client, profile) => {
      const value = String(client[name])
      // Values that even the profile `core` does not allow are reported by the schema, and not by this rule.
      return allowedBy(profile).includes(value) || !allowedBy(profiles.core).includes(value)
    },
    message: (_client, profile) =>
      `${name} must be ${orOf(allowedBy(profile))}, because the profile is ${profile.name} (${clause})`,
  }
}

/**
 * Returns a violation for each rule of the profile that the client does not meet. The message of a violation contains
 * the id of the requirement in `docs/spec-map.md`. A stored client may have violations, because it may have been
 * registered before the deployment had this profile.
 */
export function profileViolations(client: ClientMetadata, profile: Profile): Violation<keyof ClientMetadata>[] {
  return violationsOf(rules, client, profile)
}

/** Returns whether a profile has rules in addition to those for all clients. Only the profile `core` has none. */
export const restrictsClients = (profile: Profile): boolean => profile !== profiles.core

/** Returns the words as a text like `a, b or c`. */
export function orOf(words: readonly string[]): string {
  return words.length === 1 ? words[0]! : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}
