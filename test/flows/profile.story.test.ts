/** The profile FAPI-CIBA: configurations that are refused at the start, and responses of the resource endpoints. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createLocalJWKSet, jwtVerify } from 'jose'
import { createClientStore } from '../../src/client/client-store.ts'
import { toClient } from '../../src/client/configured-clients.ts'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { checkConfig } from '../../src/config/check.ts'
import { type ConfigInput, freeze } from '../../src/config/config.ts'
import { createDoorbell, ProfileError } from '../../src/doorbell.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { asserted, assertionOf, newKey, pollClient } from '../support/assertions.ts'
import { certify } from '../support/certificates.ts'
import { createStageClock } from '../support/clock.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { ana, CIBA, openStage } from '../support/stage.ts'
import { openTlsStage } from '../support/tls-stage.ts'

describe('clients that were registered before the profile was switched on', () => {
  for (const engine of engines) {
    test(`keep the server from starting, each named in the error, on ${engine.name} (FC-4, FC-7, FI-1)`, async (t) => {
      const { url, drop } = await engine.fresh()
      t.after(drop)
      const clock = createStageClock()
      const secret = Buffer.alloc(32, 7).toString('base64url')
      const database = await openDatabase(url, { log: createLog('silent'), clock })
      await migrate(database, clock)
      const clients = createClientStore(database)
      const common = { redirect_uris: [], response_types: [], grant_types: [CIBA] }
      await clients.add(
        toClient(
          {
            ...common,
            client_id: 'old-till',
            client_secret: 'hush-hush-hush',
            token_endpoint_auth_method: 'client_secret_basic',
            backchannel_token_delivery_mode: 'push',
            backchannel_client_notification_endpoint: 'https://till.example/n',
          },
          createVault(secret),
        ),
        clock.now(),
      )
      await database.close()

      const checked = checkConfig({
        issuer: 'https://id.example.com',
        database: url,
        secret,
        profile: 'fapi-ciba',
        proxy: { trust: ['127.0.0.1'], clientCertificateHeader: 'X-Client-Cert' },
      })
      assert.ok('config' in checked, JSON.stringify(checked))
      const config = freeze({ ...checked.config, secret })
      const error = await createDoorbell(config, { clock, log: createLog('silent') }).then(
        () => assert.fail('it started'),
        (error: unknown) => error,
      )
      assert.ok(error instanceof ProfileError)
      for (const named of ['delivery_mode must be poll or ping', 'auth_method must be', 'signing_alg is missing']) {
        assert.match(error.message, new RegExp(`client old-till: .*${named}`))
      }
      assert.doesNotMatch(error.message, /hush/)
    })
  }
})

describe('userinfo returns the interaction id (RS-5)', () => {
  const id = '93bac548-d2de-4546-b106-880a5018460d'

  test("the caller's own, which is also in the log line", async (t) => {
    const stage = await openStage(t)
    const authorization = await bearerOf(stage, ana)
    const { status, headers, body } = await stage.get('/oauth/userinfo', { authorization, 'x-fapi-interaction-id': id })
    assert.equal(status, 200)
    assert.equal(body.sub, ana.id)
    assert.equal(headers.get('x-fapi-interaction-id'), id)
    assert.match(String(headers.get('content-type')), /^application\/json/)
    assert.ok(headers.get('date'))
    assert.ok(stage.logLines.some((line) => line.includes('userinfo.called') && line.includes(id)))
  })

  test("a generated one, if the caller's is missing or invalid", async (t) => {
    const stage = await openStage(t)
    const authorization = await bearerOf(stage, ana)
    for (const given of [undefined, 'x', `${id}\t`, '<script>']) {
      const { headers } = await stage.get('/oauth/userinfo', {
        authorization,
        ...(given !== undefined && { 'x-fapi-interaction-id': given }),
      })
      assert.match(String(headers.get('x-fapi-interaction-id')), /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/)
    }
  })

  test("no token in the URL; the header with the customer's address is accepted (RS-2, RS-6)", async (t) => {
    const stage = await openStage(t)
    const authorization = await bearerOf(stage, ana)
    const inAddress = await stage.get(`/oauth/userinfo?access_token=${authorization.slice('Bearer '.length)}`)
    assert.ok([400, 401].includes(inAddress.status))
    for (const customer of ['2001:DB8::1893:25c8:1946', '198.51.100.119']) {
      const { status } = await stage.get('/oauth/userinfo', {
        authorization,
        accept: 'application/json;charset=UTF-8',
        'x-fapi-customer-ip-address': customer,
      })
      assert.equal(status, 200)
    }
  })
})

describe('a bank under the profile, over TLS', () => {
  const api = 'https://api.example.com'
  const payment = { type: 'payment', amount: '123.50', creditor: 'Merchant A', locations: [api] }

  async function openBank(t: TestContext, more: ConfigInput = {}) {
    const key = await newKey('one')
    const client: Partial<ClientMetadataInput> = {
      token_endpoint_auth_method: 'private_key_jwt',
      backchannel_authentication_request_signing_alg: 'ES256',
      jwks: { keys: [key.publicJwk] },
      grant_types: [CIBA, 'refresh_token'],
    }
    const stage = await openTlsStage(t, {
      cast: false,
      config: {
        ...more,
        profile: 'fapi-ciba',
        clients: [pollClient('bank', client)],
        resources: { [api]: { accessTokenFormat: 'jwt' } },
        authorizationDetails: {
          types: {
            payment: {
              schema: {
                type: 'object',
                properties: {
                  amount: { type: 'string' },
                  creditor: { type: 'string' },
                  locations: { type: 'array', items: { type: 'string' } },
                },
                required: ['amount', 'creditor'],
                additionalProperties: false,
              },
              describe: { en: 'Pay {{creditor}}: {{amount}}' },
            },
          },
        },
      },
    })
    const certified = await certify({ subject: 'CN=bank' })
    const asBank = stage.as(certified)
    const post = async (path: string, form: Record<string, string>, by = asBank, claims = {}) =>
      by.post(path, { ...form, ...asserted(await assertionOf(stage, 'bank', { key: key.privateKey, claims })) })
    const sendRequest = async (claims: Record<string, unknown>) => {
      stage.clock.advance(1)
      const request = await signedRequest(stage, 'bank', { key: key.privateKey, claims })
      return post('/backchannel/authorize', { request })
    }
    return { stage, sendRequest, post, asBank, certified, key }
  }

  /** For each endpoint and each of these audiences: whether an assertion authenticates the client. */
  async function believed(bank: Awaited<ReturnType<typeof openBank>>, audiences: unknown[]) {
    const { stage, post, asBank, key } = bank
    const answers: [string, unknown, boolean][] = []
    for (const path of ['/backchannel/authorize', '/oauth/token', '/oauth/introspect', '/oauth/revoke']) {
      for (const aud of audiences) {
        const request = await signedRequest(stage, 'bank', { key: key.privateKey, claims: { binding_message: '1234' } })
        const form = {
          '/backchannel/authorize': { request },
          '/oauth/token': { grant_type: CIBA, auth_req_id: 'unknown' },
        }[path]
        const { status, body } = await post(path, form ?? { token: 'x' }, asBank, { aud })
        if (status !== 200) assert.match(String(body.error), /^invalid_(client|grant)$/, JSON.stringify(body))
        answers.push([path, aud, body.error !== 'invalid_client'])
      }
    }
    return answers
  }

  test('client assertions must have the issuer as their only audience, unless configured otherwise', async (t) => {
    const bank = await openBank(t)
    const { url } = bank.stage
    assert.deepEqual(
      (await believed(bank, [url])).map(([, , passed]) => passed),
      [true, true, true, true],
    )
    const others = [[url], `${url}/oauth/token`, `${url}/backchannel/authorize`, [url, `${url}/oauth/token`], `${url}/`]
    for (const [path, aud, passed] of await believed(bank, others)) assert.equal(passed, false, `${path}: ${aud}`)

    const lenient = await openBank(t, { strictAssertionAudience: false })
    const usual = [lenient.stage.url, [lenient.stage.url], `${lenient.stage.url}/oauth/token`]
    for (const [path, aud, passed] of await believed(lenient, usual)) assert.equal(passed, true, `${path}: ${aud}`)
  })

  test('authorization details count as a binding message does; without either the request is refused (FC-3, RA-11)', async (t) => {
    const { sendRequest } = await openBank(t)
    const nothing = await sendRequest({ binding_message: undefined })
    assert.deepEqual([nothing.status, nothing.body.error], [400, 'invalid_request'])
    assert.match(String(nothing.body.error_description), /binding_message or authorization_details/)
    const empty = await sendRequest({ binding_message: undefined, authorization_details: [] })
    assert.deepEqual([empty.status, empty.body.error], [400, 'invalid_authorization_details'])
    for (const claims of [
      { binding_message: undefined, authorization_details: [payment] },
      { binding_message: '1234' },
      { binding_message: '1234', authorization_details: [payment] },
    ]) {
      const { status, text } = await sendRequest(claims)
      assert.equal(status, 200, text)
    }
  })

  test('a JWT names the certificate it is bound to and what was approved, also after a refresh (ML-7, FI-2, RA-7)', async (t) => {
    const { stage, sendRequest, post, asBank, certified } = await openBank(t)
    const details = [payment, { ...payment, locations: ['https://elsewhere.example'] }]
    const asked = { scope: 'openid offline_access', resource: api, binding_message: undefined }
    const { auth_req_id } = (await sendRequest({ ...asked, authorization_details: details })).body
    const decided = await asBank.post('/dev/decide', { auth_req_id: String(auth_req_id), action: 'allow' })
    assert.ok(decided.status < 300, decided.text)

    const form = { grant_type: CIBA, auth_req_id: String(auth_req_id) }
    const bare = await post('/oauth/token', form, stage.as())
    assert.deepEqual([bare.status, bare.body.error], [400, 'invalid_request'], 'without a certificate')
    const first = (await post('/oauth/token', form)).body
    const refresh = { grant_type: 'refresh_token', refresh_token: String(first.refresh_token) }
    const unbound = await post('/oauth/token', refresh, stage.as())
    assert.ok(unbound.status >= 400 && !('access_token' in unbound.body), unbound.text)
    const again = (await post('/oauth/token', refresh)).body

    const keys = createLocalJWKSet((await asBank.get('/oauth/jwks')).body as never)
    for (const { access_token, token_type } of [first, again]) {
      const { payload, protectedHeader } = await jwtVerify(String(access_token), keys, {
        issuer: stage.url,
        audience: api,
        typ: 'at+jwt',
        currentDate: new Date(stage.clock.now()),
      })
      assert.deepEqual([token_type, protectedHeader.alg], ['Bearer', 'ES256'])
      assert.deepEqual(payload.cnf, { 'x5t#S256': certified.thumbprint })
      assert.deepEqual(payload.authorization_details, [payment])
    }
  })
})
