/**
 * Validates client metadata in three steps: checks each member by itself, adds the defaults, and checks the rules
 * between members.
 */
import { violationsOf } from '../../platform/input-rule.ts'
import { type Profile, profiles } from '../../platform/security-profile.ts'
import { isPlain, readSettings } from '../../platform/validation.ts'
import { CIBA_GRANT, type ClientMetadata, type DeliveryMode } from './client-metadata.ts'
import { rules } from './metadata-rules.ts'
import { type MetadataDraft, schemaFor } from './metadata-schema.ts'
import { profileViolations } from './profile-violations.ts'

/** Properties of the deployment, such as its security profile, that are needed to validate client metadata. */
export interface ValidationContext {
  /** Whether plain http is accepted for addresses on this machine. */
  development: boolean
  /** The security profile of the deployment, by default `core`. */
  profile?: Profile
  /** Whether the server receives client certificates, by default true. */
  seesCertificates?: boolean
  /** The types of authorization details that clients may use, by default all. */
  detailTypes?: readonly string[]
}

const lists = [
  'redirect_uris',
  'grant_types',
  'response_types',
  'contacts',
  'authorization_details_types',
  'backchannel_allowed_hints',
] as const satisfies (keyof ClientMetadata)[]

/**
 * Maximum number of entries in a list. The number is limited, because creating the error message for an invalid entry
 * takes a hundred times as long as reading a valid entry.
 */
const mostEntries = 500

/**
 * Returns the validated client metadata, or all problems. Each problem starts with the name of the member. No problem
 * contains a secret.
 */
export function readClientMetadata(
  input: unknown,
  context: ValidationContext,
): { client: ClientMetadata } | { problems: string[] } {
  if (!isPlain(input)) return { problems: ['client metadata must be an object'] }
  // A member that is null counts as left out (RFC 7591 §2).
  const given = Object.fromEntries(Object.entries(input).filter(([, value]) => value !== null && value !== undefined))
  const long = lists.filter((name) => Array.isArray(given[name]) && given[name].length > mostEntries)
  if (long.length > 0) return { problems: long.map((name) => `${name} must have at most ${mostEntries} entries`) }
  const { value, problems, broken } = readSettings(schemaFor(context), given)
  const client = complete(value)
  const violations = [
    ...violationsOf(rules, client, context, (name) => broken.has(name)),
    ...profileViolations(client, context.profile ?? profiles.core).filter(({ setting }) => !broken.has(setting)),
  ]
  const all = [...problems, ...violations.map(({ message }) => message)]
  return all.length > 0 ? { problems: all } : { client }
}

function complete(draft: MetadataDraft): ClientMetadata {
  const mode = draft.backchannel_token_delivery_mode
  const isDeviceService = draft.backchannel_device_service === true
  const grants = draft.grant_types ?? defaultGrants(mode, isDeviceService)
  const signsIn = grants.includes('authorization_code')
  // Client libraries add `response_types: ["code"]` to every registration. A CIBA client or device service that signs
  // in no users needs no response types, so an empty list is registered. The response to the registration shows the
  // empty list (RFC 7591 §2).
  const ignoresResponses = !signsIn && (mode !== undefined || isDeviceService || grants.includes(CIBA_GRANT))
  return {
    ...draft,
    client_id: draft.client_id ?? '',
    redirect_uris: draft.redirect_uris ?? [],
    grant_types: grants,
    response_types: ignoresResponses ? [] : [...new Set(draft.response_types ?? (signsIn ? ['code'] : []))],
    token_endpoint_auth_method: draft.token_endpoint_auth_method ?? 'client_secret_basic',
  }
}

function defaultGrants(mode: DeliveryMode | undefined, isDeviceService: boolean): string[] {
  if (mode === 'poll' || mode === 'ping') return [CIBA_GRANT]
  // A push client gets its tokens in the notification, and a device service needs no tokens. So neither of these
  // clients uses the token endpoint (CIBA Core §4).
  if (mode === 'push' || isDeviceService) return []
  return ['authorization_code']
}
