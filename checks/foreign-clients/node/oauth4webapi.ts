/**
 * A client that uses oauth4webapi. The library has one function for each request and one for each response. All other
 * code, such as the polling loop, is in this file.
 */
import { strict as assert } from 'node:assert'
import { setTimeout as pause } from 'node:timers/promises'
import * as oauth from 'oauth4webapi'
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

const anonymous = { [oauth.customFetch]: (await fetchAs()) as never }
const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, anonymous))

/** A client with its authentication method, and a `fetch` that sends its certificate, if it has one. */
interface Caller {
  client: oauth.Client
  authentication: oauth.ClientAuth
  options: { [oauth.customFetch]: never }
  DPoP?: oauth.DPoPHandle
}

type Shown = Pick<ClientMaterial, 'cert' | 'key'>

async function callerOf(own: ClientMaterial, authentication: oauth.ClientAuth, shown: Shown = own): Promise<Caller> {
  const { client_id, id_token_signed_response_alg } = own
  const options = { [oauth.customFetch]: (await fetchAs(shown)) as never }
  return { client: { client_id, id_token_signed_response_alg }, authentication, options }
}

async function initiate({ client, authentication, options }: Caller, parameters: Record<string, string> = asked) {
  const response = await oauth.backchannelAuthenticationRequest(server, client, authentication, parameters, options)
  return oauth.processBackchannelAuthenticationResponse(server, client, response)
}

/**
 * Makes a call, and repeats it if the server demands a DPoP nonce. The DPoP handle of the library has then stored the
 * nonce.
 */
async function withNonce<Result>(call: () => Promise<Result>): Promise<Result> {
  try {
    return await call()
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    return call()
  }
}

const tokenOptions = ({ options, DPoP }: Caller) => ({ ...options, ...(DPoP && { DPoP }) })

/** Polls once, and verifies the ID token and its signature. */
function poll(caller: Caller, authReqId: string): Promise<oauth.TokenEndpointResponse> {
  const { client, authentication } = caller
  return withNonce(async () => {
    const call = [server, client, authentication, authReqId, tokenOptions(caller)] as const
    const response = await oauth.backchannelAuthenticationGrantRequest(...call)
    const tokens = await oauth.processBackchannelAuthenticationGrantResponse(server, client, response)
    await oauth.validateApplicationLevelSignature(server, response, caller.options)
    assert.equal(oauth.getValidatedIdTokenClaims(tokens)?.sub, sub)
    return tokens
  })
}

function userinfo(caller: Caller, accessToken: string): Promise<oauth.UserInfoResponse> {
  return withNonce(async () => {
    const response = await oauth.userInfoRequest(server, caller.client, accessToken, tokenOptions(caller))
    return oauth.processUserInfoResponse(server, caller.client, sub, response)
  })
}

async function refresh(caller: Caller, { refresh_token }: oauth.TokenEndpointResponse): Promise<void> {
  const { client, authentication } = caller
  const { access_token } = await withNonce(async () => {
    const call = [server, client, authentication, refresh_token!, tokenOptions(caller)] as const
    return oauth.processRefreshTokenResponse(server, client, await oauth.refreshTokenGrantRequest(...call))
  })
  await userinfo(caller, access_token)
}

async function introspect({ client, authentication, options }: Caller, token: string) {
  const response = await oauth.introspectionRequest(server, client, authentication, token, options)
  return oauth.processIntrospectionResponse(server, client, response)
}

/** Runs a whole flow. The first poll is sent as soon as the request is approved. */
async function collect(caller: Caller, parameters?: Record<string, string>): Promise<oauth.TokenEndpointResponse> {
  const { auth_req_id } = await initiate(caller, parameters)
  await decide(auth_req_id)
  const tokens = await poll(caller, auth_req_id)
  await userinfo(caller, tokens.access_token)
  return tokens
}

/** Begins a poll every `interval` seconds, counted from the acknowledgement. The duration of a poll does not matter. */
async function pollOnATimer(): Promise<undefined> {
  const caller = await callerOf(clients.poll, oauth.ClientSecretBasic(clients.poll.client_secret!))
  const { auth_req_id, interval } = await initiate(caller)
  assert.equal(interval, 1)
  const begin = performance.now()
  for (let polls = 1; polls <= 4; polls++) {
    await pause(begin + polls * 1000 - performance.now())
    await refused(poll(caller, auth_req_id), 400, 'authorization_pending')
  }
  await decide(auth_req_id)
  await pause(begin + 5000 - performance.now())
  const tokens = await poll(caller, auth_req_id)
  await refresh(caller, tokens)
  const revocation = [server, caller.client, caller.authentication, tokens.access_token, caller.options] as const
  await oauth.processRevocationResponse(await oauth.revocationRequest(...revocation))
  assert.equal((await introspect(caller, tokens.access_token)).active, false)
  return undefined
}

async function denied(): Promise<undefined> {
  const caller = await callerOf(clients.poll, oauth.ClientSecretBasic(clients.poll.client_secret!))
  const { auth_req_id } = await initiate(caller)
  await decide(auth_req_id, 'deny')
  await refused(poll(caller, auth_req_id), 400, 'access_denied')
  return undefined
}

async function pollWithAssertion(): Promise<undefined> {
  const caller = await callerOf(clients.assertion, oauth.PrivateKeyJwt(await signing(clients.assertion)))
  await refresh(caller, await collect(caller))
  return undefined
}

/**
 * Sends a request of a client that gets notifications. Resolves to its `auth_req_id`, and to a function that waits for
 * the notification.
 */
async function initiateNotified(caller: Caller, path: string) {
  const client_notification_token = newNotificationToken()
  const { auth_req_id } = await initiate(caller, { ...asked, client_notification_token })
  return { auth_req_id, notification: () => notified(auth_req_id, path, client_notification_token) }
}

async function ping(): Promise<string> {
  const caller = await callerOf(clients.ping, oauth.ClientSecretPost(clients.ping.client_secret!))
  const { auth_req_id, notification } = await initiateNotified(caller, '/ping')
  await decide(auth_req_id)
  assert.deepEqual(await notification(), { auth_req_id })
  await poll(caller, auth_req_id)
  return 'the endpoint is of node:https'
}

async function push(own: ClientMaterial, authentication: oauth.ClientAuth): Promise<string> {
  const caller = await callerOf(own, authentication)
  const { auth_req_id, notification } = await initiateNotified(caller, '/push')
  await decide(auth_req_id)
  const response = Response.json(await notification())
  const tokens = await oauth.processGenericTokenEndpointResponse(server, caller.client, response)
  await oauth.validateApplicationLevelSignature(server, response, caller.options)
  assertPushed(oauth.getValidatedIdTokenClaims(tokens)!, auth_req_id, tokens.access_token)
  await userinfo(caller, tokens.access_token)
  return 'the endpoint is of node:https; the library verifies the body as a token response'
}

async function pushDenied(): Promise<string> {
  const caller = await callerOf(clients.push, oauth.ClientSecretBasic(clients.push.client_secret!))
  const { auth_req_id, notification } = await initiateNotified(caller, '/push')
  await decide(auth_req_id, 'deny')
  assert.equal((await notification()).error, 'access_denied')
  return 'the endpoint is of node:https'
}

async function registration(): Promise<string> {
  const metadata = {
    grant_types: ['urn:openid:params:grant-type:ciba', 'refresh_token'],
    backchannel_token_delivery_mode: 'poll',
    token_endpoint_auth_method: 'client_secret_post',
  }
  const response = await oauth.dynamicClientRegistrationRequest(server, metadata, anonymous)
  const registered = await oauth.processDynamicClientRegistrationResponse(response)
  assert.equal(registered.token_endpoint_auth_method, 'client_secret_post')
  const { client_id, client_secret, registration_client_uri, registration_access_token } = registered
  const own = { client_id, id_token_signed_response_alg: String(registered.id_token_signed_response_alg) }
  const caller = await callerOf(own, oauth.ClientSecretPost(String(client_secret)))
  await collect(caller)
  const manage = async (method: string) => {
    const options = { method, headers: { authorization: `Bearer ${registration_access_token}` } }
    return (await (await fetchAs())(String(registration_client_uri), options)).status
  }
  assert.deepEqual([await manage('GET'), await manage('DELETE'), await manage('GET')], [200, 204, 401])
  await refused(initiate(caller), 401)
  return 'read and deleted with fetch, which the library leaves to its user'
}

async function signedRequest(): Promise<undefined> {
  const key = await signing(clients.signed)
  const caller = await callerOf(clients.signed, oauth.PrivateKeyJwt(key))
  const request = await oauth.issueRequestObject(server, caller.client, asked, key)
  await collect(caller, { request })
  await refused(initiate(caller, { request }), 400)
  await refused(initiate(caller), 400, 'invalid_request')
  return undefined
}

async function mutualTls(own: ClientMaterial): Promise<undefined> {
  const caller = await callerOf(own, oauth.TlsClientAuth())
  const tokens = await collect(caller)
  await refresh(caller, tokens)
  for (const shown of [{}, clients.bound]) {
    const other = await callerOf(own, oauth.TlsClientAuth(), shown)
    await refused(userinfo(other, tokens.access_token), 401)
    await refused(initiate(other), 401)
  }
  return undefined
}

async function boundTokens(): Promise<undefined> {
  const authentication = oauth.ClientSecretBasic(clients.bound.client_secret!)
  const caller = await callerOf(clients.bound, authentication)
  const tokens = await collect(caller)
  await refresh(caller, tokens)
  const { cnf } = await introspect(caller, tokens.access_token)
  assert.ok(cnf?.['x5t#S256'], 'introspection does not tell the certificate')
  for (const shown of [{}, clients.self_signed]) {
    await refused(userinfo(await callerOf(clients.bound, authentication, shown), tokens.access_token), 401)
  }
  return undefined
}

async function dpop(): Promise<undefined> {
  const caller = await callerOf(clients.dpop, oauth.PrivateKeyJwt(await signing(clients.dpop)))
  const withKey = async () => ({ ...caller, DPoP: oauth.DPoP(caller.client, await oauth.generateKeyPair('ES256')) })
  const own = await withKey()
  const tokens = await collect(own)
  assert.equal(tokens.token_type, 'dpop')
  await refresh(own, tokens)
  await refused(userinfo(await withKey(), tokens.access_token), 401)
  return undefined
}

await playAll('oauth4webapi', {
  poll: pollOnATimer,
  'poll, denied': denied,
  'poll with private_key_jwt': pollWithAssertion,
  ping,
  push: () => push(clients.push, oauth.ClientSecretBasic(clients.push.client_secret!)),
  'push, denied': pushDenied,
  registration,
  'signed request': signedRequest,
  tls_client_auth: () => mutualTls(clients.pki),
  self_signed_tls_client_auth: () => mutualTls(clients.self_signed),
  'certificate-bound tokens': boundTokens,
  'push with tls_client_auth': () => push(clients.push_pki, oauth.TlsClientAuth()),
  DPoP: dpop,
})
