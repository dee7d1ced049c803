/** Settings of clients, of users, and of where users sign in. */
import { z } from 'zod'
import type { ClientMetadataInput } from '../../client/metadata/client-metadata.ts'
import { expectation } from '../../platform/validation.ts'
import type { ConfiguredUser, UserHooks } from '../../user/user.ts'
import { choice, readElsewhere, secretText, section, text, whole, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

/** A user as configured. The default of `id` is the username, or the email address if there is no username. */
export type ConfiguredUserInput = Omit<ConfiguredUser, 'id'> & { id?: string | undefined }

const clientsExample = `[
  {
    client_id: 'till',
    client_name: 'My Till',
    client_secret: 'make one with: openssl rand -base64 32',
    backchannel_token_delivery_mode: 'poll',
  },
]`

const usersExample = `[
  { username: 'alice', email: 'alice@example.com', name: 'Alice', locale: 'en', password: 'choose one' },
]`

export const clientAndUserSettings = {
  clients: setting(
    z.custom<ClientMetadataInput[]>(Array.isArray, expectation('a list of clients')).default([]),
    'Clients of the configuration; `doorbell client add` registers others. A client has the members of RFC 7591 and ' +
      'CIBA, a `client_secret` if it needs one, and the members that Doorbell adds.',
    { values: 'a list of objects', example: clientsExample },
  ),
  users: setting(
    readElsewhere<ConfiguredUserInput[] | UserHooks>('a list of objects, or an object of functions').default([]),
    'Users of the configuration; `doorbell user add` adds others. An application that has its own users gives an ' +
      'object of hooks instead: `findByHint`, `find`, `verifyPassword`, `verifyUserCode`, `notify`, `notifyAccount`.',
    { example: usersExample },
  ),
  registration: section({
    mode: setting(
      choice(['off', 'token', 'open']).default('off'),
      'Whether clients can register themselves: with `token`, only with an initial access token of `doorbell client ' +
        'invite`; with `open`, also without one.',
    ),
    perHour: setting(
      whole('clients', 1, 100_000).default(10),
      'How many clients one IPv4 address or one IPv6 /64 may register within an hour if `registration.mode` is ' +
        '`open`. One network (IPv4 /24; IPv6 /64 and /48) may make ten times as many attempts.',
    ),
  }).prefault({}),
  login: section({
    issuer: setting(
      text('"self"', (issuer) => issuer !== '').default('self'),
      'Where users sign in: at this server (`self`), or at another OpenID provider, given by its issuer.',
      { values: '`self`, or an https address' },
    ),
    client_id: setting(
      z.string(expectation('a string')).exactOptional(),
      'The `client_id` of Doorbell at the provider `login.issuer`. There, register the redirect URI ' +
        '`<issuer>/session/callback`, where `<issuer>` is the `issuer` of Doorbell.',
      { values: 'a string', example: "'doorbell'", isSketch: true },
    ),
    client_secret: setting(
      secretText('a string', () => true).exactOptional(),
      'The `client_secret` of Doorbell at the provider `login.issuer`. Preferably set in ' +
        '`DOORBELL_LOGIN_CLIENT_SECRET`.',
      { example: "'preferably-set-in-DOORBELL_LOGIN_CLIENT_SECRET'", isSketch: true },
    ),
    token_endpoint_auth_method: setting(
      choice(['client_secret_basic', 'client_secret_post']).default('client_secret_basic'),
      'How Doorbell authenticates at the token endpoint of the provider `login.issuer`. Choose `client_secret_post` for ' +
        'a provider that does not decode the header of `client_secret_basic` as RFC 6749 §2.3.1 requires.',
    ),
    createUsers: setting(
      yesOrNo().default(false),
      'Whether a person who signs in at the provider `login.issuer`, and has no account here, becomes a user of the ' +
        'built-in directory. If so, everybody who can sign in there can sign in here, except locked and removed users.',
    ),
  }).prefault({}),
}
