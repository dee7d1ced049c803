/**
 * The actions of the OpenID Foundation's suite in the plan `fapi-ciba-id1-test-plan`, written after its description
 * (fapi-ciba.md §3 to §8), against the configuration of docs/fapi-ciba.md: two clients with keys and certificates of their own, static or registered dynamically, a
 * notification endpoint on TLS, and the steps of every flow with all its checks.
 */
import assert from 'node:assert/strict'
import { mock, type TestContext } from 'node:test'
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, assertionOf, type KeyHolder, newKey } from '../support/assertions.ts'
import { type Certified, certify } from '../support/certificates.ts'
import type { Engine } from '../support/engines.ts'
import { type NotificationEndpoint, openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { freePort } from '../support/ports.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, CIBA } from '../support/stage.ts'
import { type Caller, openTlsStage, type TlsStage } from '../support/tls-stage.ts'
import { assertAcknowledgement, assertKeySet, assertPending, assertPing, assertTokens } from './checks.ts'
import { documentedConfig } from './documented-config.ts'

export interface Variant {
  clientAuthType: 'private_key_jwt' | 'mtls'
  cibaMode: 'poll' | 'ping'
  clientRegistration: 'static_client' | 'dynamic_client'
}

export interface SuiteClient {
  id: string
  key: KeyHolder
  certified: Certified
  /** Whether it is the first of the two: they differ in details that the plan varies on purpose. */
  first: boolean
}

/** What a module changes in a flow. */
export interface Changes {
  /** Claims of the request object; `undefined` leaves one out. */
  claims?: Record<string, unknown>
  header?: Record<string, unknown>
  /** Replaces the client's own key. */
  key?: KeyHolder['privateKey']
}

export interface Acknowledged {
  authReqId: string
  expiresIn: number
  interval: number
  notificationToken: string
}

/** A flow after the steps 1 to 7: acknowledged, and polled twice with authorization_pending. */
export type Flow = Acknowledged & { client: SuiteClient }

export type Tokens = Record<string, unknown> & { access_token: string; id_token: string }

/** The clients, and the metadata of the provider. */
interface Parties {
  stage: TlsStage
  variant: Variant
  metadata: Record<string, unknown>
  keys: JSONWebKeySet
  first: SuiteClient
  second: SuiteClient
  endpoint: NotificationEndpoint
}

interface Calls {
  /** Returns a signed request with the claims of step 3. */
  requestObject(client: SuiteClient, changes?: Changes): Promise<string>
  /** POSTs to the backchannel authentication endpoint, authenticated as this client. */
  ring(client: SuiteClient, form: Record<string, string>): Promise<Answer>
  /** POSTs only this form, with the certificate if there is one. */
  ringBare(form: Record<string, string>, certified?: Certified): Promise<Answer>
  token(client: SuiteClient, form: Record<string, string>): Promise<Answer>
  tokenBare(form: Record<string, string>, certified?: Certified): Promise<Answer>
  poll(client: SuiteClient, authReqId: string): Promise<Answer>
  /** Returns the form fields that authenticate the client at one of the two endpoints. */
  credentials(client: SuiteClient, audience: string, options?: AssertionChanges): Promise<Record<string, string>>
  backchannelEndpoint: string
  tokenEndpoint: string
  /** The approval hook of the suite. */
  decide(authReqId: string, action: 'allow' | 'deny'): Promise<Answer>
  /** Calls the protected resource with this client's certificate. */
  resource(client: SuiteClient, token: string, headers?: Record<string, string>): Promise<Answer>
  waitSeconds(seconds: number): void
}

interface Flows {
  /** Runs steps 2 to 7. */
  start(client: SuiteClient, changes?: Changes): Promise<Flow>
  /** Runs steps 8 to 10. Resolves to the tokens. */
  finish(flow: Flow): Promise<Tokens>
  /** Checks the ping of this flow; for poll clients, that there is none. */
  pinged(flow: Flow): Promise<void>
  checkTokens(client: SuiteClient, tokens: Answer): Promise<Tokens>
}

export type Suite = Parties & Calls & Flows

interface AssertionChanges {
  alg?: string
  key?: KeyHolder['privateKey']
}

export async function openSuite(t: TestContext, variant: Variant, engine: Engine): Promise<Suite> {
  const suiteCertificate = await certify({
    subject: 'CN=suite',
    names: [{ type: 'dns', value: 'localhost' }],
    kind: 'rsa',
  })
  const endpoint = await openNotificationEndpoint(t, {
    tls: { key: suiteCertificate.key, cert: suiteCertificate.cert },
  })
  // An authority issues the certificates of static clients; those of dynamic ones are self-signed.
  const isStatic = variant.clientRegistration === 'static_client'
  const authority = await certify({ subject: 'CN=Authority of the suite', isAuthority: true })
  const by = isStatic ? authority : undefined
  const clients = [await newClient('client', true, by), await newClient('client2', false, by)] as const
  const port = await freePort()
  const stage = await openTlsStage(t, {
    engine,
    port,
    config: await documentedConfig({
      issuer: `https://localhost:${port}`,
      clientCa: authority.cert,
      notificationsCa: suiteCertificate.cert,
      clients: isStatic
        ? clients.map((client) => ({ client_id: client.id, ...metadataOf(client, variant, endpoint) }))
        : [],
    }),
    isComplete: true,
  })
  // Code other than CIBA reads the system's clock, which must stand still as well.
  mock.timers.enable({ apis: ['Date'], now: stage.clock.now() })
  t.after(() => mock.timers.reset())
  const metadata = (await stage.as().get('/.well-known/openid-configuration')).body
  if (!isStatic) for (const client of clients) await register(client, stage, variant, endpoint)
  const keys = (await stage.as().get(String(metadata.jwks_uri))).body as unknown as JSONWebKeySet
  assertKeySet(keys)
  const parties = { stage, variant, metadata, keys, first: clients[0], second: clients[1], endpoint }
  const calls = callsTo(parties)
  return { ...parties, ...calls, ...flowsOf(parties, calls) }
}

async function newClient(id: string, first: boolean, by: Certified | undefined): Promise<SuiteClient> {
  const certified = await certify({ subject: `CN=${id}`, ...(by && { by }) })
  return { id, first, key: await newKey(`${id}-key`, 'PS256'), certified }
}

function metadataOf(
  { key, certified }: SuiteClient,
  { clientAuthType, cibaMode, clientRegistration }: Variant,
  endpoint: NotificationEndpoint,
): Omit<ClientMetadataInput, 'client_id'> {
  return {
    client_name: 'The suite',
    grant_types: [CIBA, 'refresh_token'],
    response_types: [],
    jwks: { keys: [{ ...key.publicJwk, x5c: [certified.x5c] }] } as never,
    backchannel_user_code_parameter: false,
    backchannel_token_delivery_mode: cibaMode,
    ...(cibaMode === 'ping' && { backchannel_client_notification_endpoint: endpoint.url }),
    backchannel_authentication_request_signing_alg: 'PS256',
    id_token_signed_response_alg: 'PS256',
    tls_client_certificate_bound_access_tokens: true,
    ...(clientAuthType === 'private_key_jwt'
      ? { token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'PS256' }
      : clientRegistration === 'dynamic_client'
        ? { token_endpoint_auth_method: 'self_signed_tls_client_auth' }
        : { token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: certified.subject }),
  }
}

/** Registers a client (§4.4), and checks the response. */
async function register(
  client: SuiteClient,
  stage: TlsStage,
  variant: Variant,
  endpoint: NotificationEndpoint,
): Promise<void> {
  const answer = await stage
    .as()
    .send('POST', '/oauth/register', JSON.stringify(metadataOf(client, variant, endpoint)), {
      'content-type': 'application/json',
    })
  assert.equal(answer.status, 201, answer.text)
  assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
  assert.equal(typeof answer.body.client_id, 'string')
  assert.equal('client_secret' in answer.body, false)
  assert.match(String(answer.body.registration_client_uri), /^https:/)
  assert.equal(typeof answer.body.registration_access_token, 'string')
  client.id = String(answer.body.client_id)
}

/** The address of an endpoint for clients with certificates: its alias if the provider publishes one (RFC 8705 §5). */
export function mtlsAddress(metadata: Record<string, unknown>, endpoint: string): string {
  const aliases = (metadata.mtls_endpoint_aliases ?? {}) as Record<string, string>
  return String(aliases[endpoint] ?? metadata[endpoint])
}

/** Calls the provider's endpoints as the two clients. */
function callsTo({ stage, variant, metadata }: Parties): Calls {
  const isMtls = variant.clientAuthType === 'mtls'
  // CT-4: clients with keys use the plain address for authentication requests, those with certificates the alias;
  // tokens are always fetched at the alias.
  const backchannelEndpoint = isMtls
    ? mtlsAddress(metadata, 'backchannel_authentication_endpoint')
    : String(metadata.backchannel_authentication_endpoint)
  const tokenEndpoint = mtlsAddress(metadata, 'token_endpoint')
  const post = (caller: Caller, url: string, form: Record<string, string>) =>
    caller.send('POST', url, String(new URLSearchParams(form)), { 'content-type': 'application/x-www-form-urlencoded' })

  const calls: Calls = {
    backchannelEndpoint,
    tokenEndpoint,

    requestObject: (client, { claims, header, key } = {}) =>
      signedRequest({ clock: stage.clock, url: String(metadata.issuer) }, client.id, {
        key: key ?? client.key.privateKey,
        // The second client sends a type, with unusual capital letters on purpose.
        header: {
          alg: 'PS256',
          kid: String(client.key.publicJwk.kid),
          ...(!client.first && { typ: 'OautH-auThZ-REQ+jWt' }),
          ...header,
        },
        claims: { scope: 'openid offline_access', ...claims },
      }),

    async ring(client, form) {
      // CT-6: the audience of the assertion differs on purpose.
      const audience = client.first ? String(metadata.issuer) : String(metadata.token_endpoint)
      const who = await calls.credentials(client, audience)
      return calls.ringBare({ ...form, ...who }, isMtls ? client.certified : undefined)
    },
    ringBare: (form, certified) => post(stage.as(certified), backchannelEndpoint, form),

    // CT-5
    token: async (client, form) =>
      calls.tokenBare({ ...form, ...(await calls.credentials(client, tokenEndpoint)) }, client.certified),
    tokenBare: (form, certified) => post(stage.as(certified), tokenEndpoint, form),
    poll: (client, authReqId) => calls.token(client, { grant_type: CIBA, auth_req_id: authReqId }),

    async credentials(client, audience, { alg = 'PS256', key = client.key.privateKey } = {}) {
      if (isMtls) return { client_id: client.id }
      const now = Math.floor(stage.clock.now() / 1000)
      const claims = { aud: audience, nbf: now }
      return asserted(
        await assertionOf(stage, client.id, { key, header: { alg, kid: String(client.key.publicJwk.kid) }, claims }),
      )
    },

    // The suite sends both values in the address.
    decide: (authReqId, action) =>
      stage.as().send('POST', `/dev/decide?${new URLSearchParams({ auth_req_id: authReqId, action })}`, '', {
        accept: 'application/json',
      }),

    resource: (client, token, headers = {}) =>
      stage.as(client.certified).send('GET', mtlsAddress(metadata, 'userinfo_endpoint'), undefined, {
        authorization: `Bearer ${token}`,
        ...headers,
      }),

    waitSeconds(seconds) {
      stage.clock.advance(seconds * 1000)
      mock.timers.setTime(stage.clock.now())
    },
  }
  return calls
}

/** The steps of a flow, with all their checks. */
function flowsOf({ stage, variant, metadata, keys, endpoint }: Parties, calls: Calls): Flows {
  const flows: Flows = {
    async start(client, changes = {}) {
      const notificationToken = `${newSecret(30).slice(0, 27)}=`
      const claims = {
        ...(variant.cibaMode === 'ping' && { client_notification_token: notificationToken }),
        ...changes.claims,
      }
      const request = await calls.requestObject(client, { ...changes, claims })
      const acknowledged = assertAcknowledgement(await calls.ring(client, { request }))
      const flow = { client, notificationToken, ...acknowledged }
      if ('client_notification_token' in claims) flow.notificationToken = String(claims.client_notification_token)
      // Step 6: at once. Step 7: after the interval, and once more after slow_down.
      let wait = Math.max(5, flow.interval)
      assertPending(await calls.poll(client, flow.authReqId))
      calls.waitSeconds(wait)
      const second = await calls.poll(client, flow.authReqId)
      assertPending(second)
      if (second.body.error === 'slow_down') {
        wait += 5
        calls.waitSeconds(wait)
        assertPending(await calls.poll(client, flow.authReqId))
      }
      return flow
    },

    async finish(flow) {
      const hook = await calls.decide(flow.authReqId, 'allow')
      assert.equal(Math.floor(hook.status / 100), 2, hook.text)
      await flows.pinged(flow)
      // CT-1: after a ping the client polls at once, whatever the interval is; a poll client waits.
      if (variant.cibaMode === 'poll') calls.waitSeconds(flow.interval)
      return flows.checkTokens(flow.client, await calls.poll(flow.client, flow.authReqId))
    },

    async pinged(flow) {
      await stage.doorbell.idle()
      const calls = endpoint.heard.splice(0)
      if (variant.cibaMode === 'poll') return assert.deepEqual(calls, [], 'a poll client is not called')
      assert.equal(calls.length, 1)
      assertPing(calls[0]!, flow)
    },

    async checkTokens(client, answer) {
      assertTokens(answer)
      const idToken = String(answer.body.id_token)
      const { payload, protectedHeader } = await jwtVerify(idToken, createLocalJWKSet(keys), {
        issuer: String(metadata.issuer),
        audience: client.id,
        algorithms: ['PS256', 'ES256'],
        currentDate: new Date(stage.clock.now()),
      })
      assert.equal(typeof protectedHeader.kid, 'string')
      assert.ok(payload.exp! > stage.clock.now() / 1000)
      assert.ok(Math.abs(payload.iat! - stage.clock.now() / 1000) < 300)
      assert.match(payload.sub!, /^[\x20-\x7e]{1,255}$/)
      if ('acr' in payload) assert.ok(typeof payload.acr === 'string' && payload.acr !== '')
      return answer.body as Tokens
    },
  }
  return flows
}
