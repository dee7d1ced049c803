/** Settings of sessions, tokens, signing keys, authorization details and resources. */
import type { DetailTexts } from '../../authorization-details/detail-template.ts'
import type { DescribeDetail, DetailSchema, IsSubset } from '../../authorization-details/detail-types.ts'
import type { Resource } from '../../authorization-details/resources.ts'
import { isScope } from './formats.ts'
import { choice, list, readElsewhere, section, whole, year } from './kinds.ts'
import { setting } from './setting.ts'

/**
 * A type of authorization details in the configuration. A configuration in JSON can contain no code, so each member
 * also has a form without code.
 */
export interface DetailTypeInput {
  /** A schema of zod, or a JSON Schema, of all fields except `type`. */
  schema: DetailSchema | Record<string, unknown>
  /** A function, or texts by language that contain fields of the detail: `{ en: 'Pay {{amount}}' }`. */
  describe: DescribeDetail | DetailTexts
  /**
   * How a user may approve less than the client requested: the names of the list fields from which the user may remove
   * members, or a function that returns whether the approved detail grants no more than the requested detail.
   */
  narrow?: readonly string[] | IsSubset | undefined
}

const detailTypesExample = `{
  account_information: {
    schema: { type: 'object', properties: { accounts: { type: 'array' } }, additionalProperties: false },
    describe: { en: 'See your accounts {{accounts}}' },
    narrow: ['accounts'],
  },
}`

export const tokenSettings = {
  sessions: section({
    idleTtl: setting(
      whole('seconds', 60, year).default(86_400),
      'How long a user stays signed in without using the session.',
    ),
    absoluteTtl: setting(
      whole('seconds', 60, year).default(1_209_600),
      'How long a user stays signed in after authentication, however often the session is used.',
    ),
  }).prefault({}),
  tokens: section({
    accessTtl: setting(whole('seconds', 1, year).default(600), 'How long an access token is valid.'),
    idTtl: setting(whole('seconds', 1, year).default(3600), 'How long an ID token is valid.'),
    refreshTtl: setting(whole('seconds', 1, 10 * year).default(1_209_600), 'How long a refresh token is valid.'),
    idTokenAlg: setting(
      choice(['ES256', 'RS256', 'PS256']).default('ES256'),
      'The algorithm that signs JWT access tokens. It also signs ID tokens for clients of the configuration and of ' +
        '`doorbell client add` that have no `id_token_signed_response_alg`. Clients that register themselves without ' +
        'this member get RS256, the default of the standard.',
    ),
    scopes: setting(
      list('a scope: printable ASCII without spaces', isScope).default([
        'openid',
        'profile',
        'email',
        'phone',
        'offline_access',
      ]),
      'The scopes that clients may request; `openid` must be among them. `ciba:decide` is always included.',
    ),
  }).prefault({}),
  keys: section({
    publishAhead: setting(
      whole('seconds', 60, year).default(3600),
      'How long a signing key is published before it signs. Clients may cache a key set for half of this time ' +
        '([operating.md](operating.md)).',
    ),
    rotateEvery: setting(
      whole('seconds', 3600, 10 * year).exactOptional(),
      'How long a key signs until the next key replaces it; 7 776 000 is ninety days. If left out, only `doorbell ' +
        'keys rotate` changes keys.',
      { example: '7_776_000', isSketch: true },
    ),
    keepForHints: setting(
      whole('seconds', 0, 10 * year).default(year),
      'How long ID tokens are accepted as `id_token_hint` after another key has replaced the key that signed them.',
    ),
  }).prefault({}),
  authorizationDetails: section({
    types: setting(
      readElsewhere<Record<string, DetailTypeInput>>('an object of types by their name').default({}),
      'The types of authorization details (RFC 9396) that clients may request. Each type has a schema (of zod, or ' +
        'JSON Schema), texts for users, and the names of the lists from which a user may remove members ' +
        '([authorization-details.md](authorization-details.md)).',
      { example: detailTypesExample },
    ),
  }).prefault({}),
  resources: setting(
    readElsewhere<Record<string, { [Name in keyof Resource]?: Resource[Name] | undefined }>>(
      'an object of resources by address',
    ).default({}),
    'The resource servers for which clients may request access tokens (RFC 8707), each by the address that clients ' +
      'send as `resource` ([authorization-details.md](authorization-details.md)).',
    { example: "{ 'https://api.example.com': {} }" },
  ),
}
