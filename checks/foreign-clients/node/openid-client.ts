/** A client that uses openid-client. The library itself polls, authenticates, signs and verifies. */
import { strict as assert } from 'node:assert'
import * as openid from 'openid-client'
import type { ClientMaterial } from '../server.ts'
import {
  asked,
  assertPushed,
  decide,
  fetchAs,
  issuer,
  material,
  newNotificationToken,
  notified,
  playAll,
  refused,
  signing,
} from './stage.ts'

const { clients, sub } = material

interface Setting {
  /** The client whose certificate is sent. Default: this client. */
  shows?: Pick<ClientMaterial, 'cert' | 'key'>
}

/**
 * Resolves to a client that is configured only by discovery. The signatures of ID tokens are verified with the keys at
 * `jwks_uri`.
 */
async function configured(client: ClientMaterial, authentication: openid.ClientAuth, { shows = client }: Setting = {}) {
  const metadata = { id_token_signed_response_alg: client.id_token_signed_response_alg }
  return openid.discovery(issuer, client.client_id, metadata, authentication, {
    execute: [openid.enableNonRepudiationChecks],
    [openid.customFetch]: (await fetchAs(shows)) as openid.CustomFetch,
  })
}

type Tokens = Awaited<ReturnType<typeof openid.pollBackchannelAuthenticationGrant>>

/** Approves a request and collects it with the library's loop, which waits for an interval before each poll. */
async function collect(
  config: openid.Configuration,
  response: openid.BackchannelAuthenticationResponse,
  options?: openid.DPoPOptions,
): Promise<Tokens> {
  await decide(response.auth_req_id)
  const tokens = await openid.pollBackchannelAuthenticationGrant(config, response, undefined, options)
  assert.equal(tokens.claims()?.sub, sub)
  assert.equal((await openid.fetchUserInfo(config, tokens.access_token, sub, options)).sub, sub)
  return tokens
}

async function refresh(config: openid.Configuration, tokens: Tokens, options?: openid.DPoPOptions): Promise<void> {
  const refreshed = await openid.refreshTokenGrant(config, tokens.refresh_token!, undefined, options)
  assert.equal((await openid.fetchUserInfo(config, refreshed.access_token, sub, options)).sub, sub)
}

async function poll(): Promise<undefined> {
  const config = await configured(clients.poll, openid.ClientSecretBasic(clients.poll.client_secret))
  const response = await openid.initiateBackchannelAuthentication(config, asked)
  assert.equal(response.interval, 1)
  // Two polls are sent before the decision. If one of them got slow_down, the third would be sent five seconds later.
  const begin = performance.now()
  const [tokens] = await Promise.all([
    openid.pollBackchannelAuthenticationGrant(config, response),
    new Promise((resolve) => setTimeout(resolve, 2500)).then(() => decide(response.auth_req_id)),
  ])
  assert.ok(performance.now() - begin < 5000, 'the client was told to slow down')
  assert.equal(tokens.claims()?.sub, sub)
  await refresh(config, tokens)
  await openid.tokenRevocation(config, tokens.access_token)
  assert.equal((await openid.tokenIntrospection(config, tokens.access_token)).active, false)
  return undefined
}

async function denied(): Promise<undefined> {
  const config = await configured(clients.poll, openid.ClientSecretBasic(clients.poll.client_secret))
  const response = await openid.initiateBackchannelAuthentication(config, asked)
  await decide(response.auth_req_id, 'deny')
  await refused(openid.pollBackchannelAuthenticationGrant(config, response), 400, 'access_denied')
  return undefined
}

async function pollWithAssertion(): Promise<undefined> {
  const config = await configured(clients.assertion, openid.PrivateKeyJwt(await signing(clients.assertion)))
  await refresh(config, await collect(config, await openid.initiateBackchannelAuthentication(config, asked)))
  return undefined
}

async function ping(): Promise<string> {
  const config = await configured(clients.ping, openid.ClientSecretPost(clients.ping.client_secret))
  const client_notification_token = newNotificationToken()
  const response = await openid.initiateBackchannelAuthentication(config, { ...asked, client_notification_token })
  const { auth_req_id } = response
  await decide(auth_req_id)
  assert.deepEqual(await notified(auth_req_id, '/ping', client_notification_token), { auth_req_id })
  const tokens = await openid.pollBackchannelAuthenticationGrant(config, response)
  assert.equal(tokens.claims()?.sub, sub)
  return 'the endpoint is of node:https'
}

async function initiatePush(client: ClientMaterial, authentication: openid.ClientAuth) {
  const config = await configured(client, authentication)
  const client_notification_token = newNotificationToken()
  const parameters = { ...asked, client_notification_token }
  const { auth_req_id } = await openid.initiateBackchannelAuthentication(config, parameters)
  return { config, auth_req_id, pushed: () => notified(auth_req_id, '/push', client_notification_token) }
}

async function push(client: ClientMaterial, authentication: openid.ClientAuth): Promise<string> {
  const { config, auth_req_id, pushed } = await initiatePush(client, authentication)
  await decide(auth_req_id)
  const body = await pushed()
  // The library has no function for push. So the test passes the body of the push to the library as the response to a
  // token request, and the library verifies it.
  const reading = await configured(client, openid.None())
  const overNetwork = reading[openid.customFetch]!
  reading[openid.customFetch] = async (url, options) =>
    url === config.serverMetadata().token_endpoint ? Response.json(body) : overNetwork(url, options)
  const tokens = await openid.genericGrantRequest(reading, 'pushed', {})
  assertPushed(tokens.claims()!, auth_req_id, tokens.access_token)
  assert.equal((await openid.fetchUserInfo(config, tokens.access_token, sub)).sub, sub)
  return 'the endpoint is of node:https; the library verifies the body as a token response'
}

async function pushDenied(): Promise<string> {
  const { auth_req_id, pushed } = await initiatePush(clients.push, openid.ClientSecretBasic(clients.push.client_secret))
  await decide(auth_req_id, 'deny')
  assert.equal((await pushed()).error, 'access_denied')
  return 'the endpoint is of node:https'
}

async function registration(): Promise<string> {
  const metadata = {
    grant_types: ['urn:openid:params:grant-type:ciba', 'refresh_token'],
    backchannel_token_delivery_mode: 'poll',
    client_name: 'openid-client',
  }
  const fetcher = (await fetchAs()) as openid.CustomFetch
  const config = await openid.dynamicClientRegistration(issuer, metadata, undefined, {
    execute: [openid.enableNonRepudiationChecks],
    [openid.customFetch]: fetcher,
  })
  const registered = config.clientMetadata()
  // The configuration that the library returns uses client_secret_post even if another method was registered.
  const byMethod = registered.token_endpoint_auth_method === 'client_secret_basic'
  assert.ok(byMethod, `registered for ${registered.token_endpoint_auth_method}`)
  const client = { client_id: registered.client_id, id_token_signed_response_alg: 'RS256' }
  const own = await configured(client, openid.ClientSecretBasic(registered.client_secret))
  await collect(own, await openid.initiateBackchannelAuthentication(own, asked))
  const authorization = { authorization: `Bearer ${registered.registration_access_token}` }
  const uri = String(registered.registration_client_uri)
  assert.equal((await fetcher(uri, { method: 'GET', headers: authorization } as never)).status, 200)
  assert.equal((await fetcher(uri, { method: 'DELETE', headers: authorization } as never)).status, 204)
  await refused(openid.initiateBackchannelAuthentication(own, asked), 401)
  return 'read and deleted with fetch, which the library leaves to its user'
}

async function signedRequest(): Promise<string> {
  const key = await signing(clients.signed)
  const config = await configured(clients.signed, openid.PrivateKeyJwt(key))
  const url = await openid.buildAuthorizationUrlWithJAR(config, asked, key)
  const request = url.searchParams.get('request')!
  await collect(config, await openid.initiateBackchannelAuthentication(config, { request }))
  await refused(openid.initiateBackchannelAuthentication(config, asked), 400, 'invalid_request')
  return 'the request object is that of an authorization URL'
}

async function mutualTls(client: ClientMaterial): Promise<undefined> {
  const config = await configured(client, openid.TlsClientAuth())
  const tokens = await collect(config, await openid.initiateBackchannelAuthentication(config, asked))
  await refresh(config, tokens)
  for (const shows of [{}, clients.bound]) {
    const other = await configured(client, openid.TlsClientAuth(), { shows })
    await refused(openid.fetchUserInfo(other, tokens.access_token, sub), 401)
    await refused(openid.initiateBackchannelAuthentication(other, asked), 401)
  }
  return undefined
}

async function boundTokens(): Promise<undefined> {
  const authentication = openid.ClientSecretBasic(clients.bound.client_secret)
  const config = await configured(clients.bound, authentication)
  const tokens = await collect(config, await openid.initiateBackchannelAuthentication(config, asked))
  await refresh(config, tokens)
  const { cnf } = (await openid.tokenIntrospection(config, tokens.access_token)) as { cnf?: Record<string, string> }
  assert.ok(cnf?.['x5t#S256'], 'introspection does not tell the certificate')
  for (const shows of [{}, clients.self_signed]) {
    const other = await configured(clients.bound, authentication, { shows })
    await refused(openid.fetchUserInfo(other, tokens.access_token, sub), 401)
  }
  return undefined
}

async function dpop(): Promise<undefined> {
  const config = await configured(clients.dpop, openid.PrivateKeyJwt(await signing(clients.dpop)))
  // The server demands a nonce, and the library itself repeats the call with the nonce.
  const DPoP = openid.getDPoPHandle(config, await openid.randomDPoPKeyPair())
  const tokens = await collect(config, await openid.initiateBackchannelAuthentication(config, asked), { DPoP })
  assert.equal(tokens.token_type, 'dpop')
  await refresh(config, tokens, { DPoP })
  const other = openid.getDPoPHandle(config, await openid.randomDPoPKeyPair())
  await refused(openid.fetchUserInfo(config, tokens.access_token, sub, { DPoP: other }), 401)
  return undefined
}

await playAll('openid-client', {
  poll,
  'poll, denied': denied,
  'poll with private_key_jwt': pollWithAssertion,
  ping,
  push: () => push(clients.push, openid.ClientSecretBasic(clients.push.client_secret)),
  'push, denied': pushDenied,
  registration,
  'signed request': signedRequest,
  tls_client_auth: () => mutualTls(clients.pki),
  self_signed_tls_client_auth: () => mutualTls(clients.self_signed),
  'certificate-bound tokens': boundTokens,
  'push with tls_client_auth': () => push(clients.push_pki, openid.TlsClientAuth()),
  DPoP: dpop,
})
