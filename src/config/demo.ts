/**
 * The demo clients and users: a café, a shop, a bank, a phone, and three people. Their secrets and passwords are
 * public.
 */
import { CIBA_GRANT, type ClientMetadataInput } from '../client/metadata/client-metadata.ts'
import { isLoopback } from '../platform/http/web-address.ts'
import { isPlain } from '../platform/validation.ts'
import type { ConfiguredUserInput } from './settings/clients-and-users.ts'

/** @param base the address at which this server can call itself, without a slash at the end */
export function demoClients(base: string): ClientMetadataInput[] {
  return [
    {
      client_id: 'demo-till',
      client_name: 'Corner Café Till',
      client_secret: 'demo-till-secret-not-for-production',
      grant_types: [CIBA_GRANT, 'refresh_token'],
      backchannel_token_delivery_mode: 'poll',
    },
    {
      client_id: 'demo-shop',
      client_name: 'Bookshop Online',
      client_secret: 'demo-shop-secret-not-for-production',
      grant_types: [CIBA_GRANT, 'refresh_token'],
      backchannel_token_delivery_mode: 'ping',
      backchannel_client_notification_endpoint: `${base}/dev/callback/demo-shop`,
    },
    {
      client_id: 'demo-bank',
      client_name: 'Riverside Bank',
      client_secret: 'demo-bank-secret-not-for-production',
      grant_types: [],
      backchannel_token_delivery_mode: 'push',
      backchannel_client_notification_endpoint: `${base}/dev/callback/demo-bank`,
    },
    {
      client_id: 'demo-device',
      client_name: 'Demo Device Service',
      client_secret: 'demo-device-secret-not-for-production',
      backchannel_device_service: true,
    },
    {
      client_id: 'demo-app',
      client_name: 'Demo Phone App',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      // The redirect URI needs no port, because any port of a loopback address is accepted (RFC 8252 §7.3).
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code', 'refresh_token'],
      scope: 'openid ciba:decide',
    },
  ]
}

export const demoUsers: ConfiguredUserInput[] = [
  { id: 'alice', username: 'alice', email: 'alice@example.com', name: 'Alice Archer', locale: 'en', password: 'alice' },
  { id: 'bob', username: 'bob', email: 'bob@example.com', name: 'Bob Becker', locale: 'de', password: 'bob' },
  { id: 'carol', username: 'carol', email: 'carol@example.com', name: 'Carol Castro', locale: 'es', password: 'carol' },
]

/**
 * Returns the id of the demo client with this secret, or undefined if there is none. The secrets of the demo clients
 * are public.
 */
export function demoClientWithSecret(secret: string): string | undefined {
  return demoClients('').find(({ client_secret }) => client_secret === secret)?.client_id
}

/**
 * Returns `input` with the demo clients and users. A client or user in `input` replaces the demo client or user with
 * the same id.
 */
export function withDemo(input: Record<string, unknown>): Record<string, unknown> {
  return {
    development: true,
    ...input,
    clients: joined(demoClients(demoBase(input)), input.clients, 'client_id'),
    users: joined(demoUsers, input.users, 'id'),
  }
}

/**
 * Returns the demo entries and the entries of `given`, without demo entries that have the same `key` as an entry of
 * `given`. If `given` is not a list, such as hooks or an invalid value, it is returned unchanged.
 */
function joined(cast: readonly object[], given: unknown, key: string): unknown {
  if (given === undefined) return cast
  if (!Array.isArray(given)) return given
  const taken = given.map((entry) => (isPlain(entry) ? entry[key] : undefined))
  return [...cast.filter((entry) => !taken.includes(Reflect.get(entry, key))), ...given]
}

/**
 * Returns the base address of the notification endpoints of the demo clients. These endpoints are on this server. The
 * address is a loopback address, because only loopback addresses may use plain http.
 */
function demoBase({ issuer, port }: Record<string, unknown>): string {
  if (typeof issuer === 'string' && URL.canParse(issuer) && isLoopback(new URL(issuer).hostname)) {
    return issuer.replace(/\/+$/, '')
  }
  return `http://localhost:${Number.isInteger(port) && Number(port) <= 65_535 && Number(port) >= 0 ? port : 4000}`
}
