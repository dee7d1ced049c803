/** Flows that leave rows in nearly every table, for tests about all tables or all statements. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { createInitialAccessStore } from '../../src/client/registration/initial-access-token-store.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { asserted, assertionOf, newKey, pollClient } from '../support/assertions.ts'
import { type CreationOptions, createAuthenticator } from '../support/authenticator.ts'
import { byCommand, dora } from '../support/commands.ts'
import type { Engine } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { ana, basic, ben, newNotificationToken, openStage, type Stage, type StageOptions } from '../support/stage.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

/** The users whose ids are in the tables. */
export const userIds = [ana.id, ben.id]
const secret = newSecret()
const key = await newKey('one')
const signs = { jwks: { keys: [key.publicJwk] } }
const own: ClientMetadataInput[] = [
  pollClient('booth-client', { client_secret: secret, backchannel_user_code_parameter: true }),
  pollClient('asserting-client', { ...signs, token_endpoint_auth_method: 'private_key_jwt' }),
  pollClient('signing-client', {
    ...signs,
    client_secret: secret,
    backchannel_authentication_request_signing_alg: 'ES256',
  }),
  {
    client_id: 'pairwise-client',
    client_secret: secret,
    grant_types: [],
    subject_type: 'pairwise',
    backchannel_token_delivery_mode: 'push',
    backchannel_client_notification_endpoint: 'http://localhost:9/tokens',
  },
]
/** The clients whose ids are in the tables. */
export const clientIds = ['kiosk', 'northbank', ...own.map(({ client_id }) => client_id!)]

/** A server with registration, web push and every limit. */
export const openWithAllFeatures = (t: TestContext, engine: Engine, parts: StageOptions['parts'] = {}) =>
  openStage(t, {
    engine,
    parts,
    config: {
      clients: own,
      registration: { mode: 'open' },
      // These limits are off in development by default.
      limits: { pauseAfterDenial: { first: 30 }, perClient: { unknownPerMinute: 3 } },
      webPush: { subject: 'mailto:ops@id.example' },
    },
  })

/** Fills the tables: with flows in each mode, and with other calls of users, clients and anonymous callers. */
export async function fillTables(t: TestContext, stage: Stage): Promise<void> {
  await askedInEachWay(stage)
  await keptByUsers(t, stage)
  await triedByStrangers(stage)
  await stage.doorbell.idle()
}

async function askedInEachWay(stage: Stage): Promise<void> {
  for (const as of ['kiosk', 'northbank', 'till'] as const) {
    const { body } = await stage.ring(as, { scope: 'openid offline_access' })
    await stage.decide(await stage.newestRequest(), 'approved')
    if (as !== 'till') assert.equal((await stage.poll(as, body.auth_req_id)).status, 200)
    await stage.ring(as, { login_hint: 'ben' })
    await stage.decide(await stage.newestRequest('ben'), 'denied', {
      login_hint: 'ben',
      report: String(as === 'kiosk'),
    })
    await stage.ring(as)
  }
  await stage.ring('northbank', { login_hint: 'nobody' })
  const form = { scope: 'openid', login_hint: 'ana' }
  const asking = async (more: Record<string, string>, as?: string) => {
    stage.clock.advance(1)
    const { status, text } = await stage.post('/backchannel/authorize', more, as && basic(as, secret))
    assert.equal(status, 200, text)
  }
  await asking({ ...form, ...asserted(await assertionOf(stage, 'asserting-client', { key: key.privateKey })) })
  const request = await signedRequest(stage, 'signing-client', { key: key.privateKey, header: { kid: 'one' } })
  await asking({ request }, 'signing-client')
  await asking({ ...form, client_notification_token: newNotificationToken() }, 'pairwise-client')
  assert.equal((await stage.decide(await stage.newestRequest(), 'approved')).status, 200)
}

async function keptByUsers(t: TestContext, stage: Stage): Promise<void> {
  const authorization = await bearerOf(stage)
  // oidc-provider uses the real clock. By the clock of the stage, the sign-in would be in the future.
  stage.clock.advance(Math.max(0, Date.now() - stage.clock.now()))
  const post = async (path: string, more: Record<string, string> = {}) => {
    const { status, body, text } = await stage.post(`/backchannel/${path}`, more, authorization)
    assert.ok(status < 300, `${path}: ${text}`)
    return body
  }
  const creation = (await post('passkeys/options')) as unknown as CreationOptions
  await post('passkeys', { passkey: createAuthenticator(stage.url).create(creation) })
  await stage.ring('kiosk')
  await post('passkeys/confirm-options', { request_id: await stage.newestRequest() })
  await post('user-code', { user_code: 'heron-4711' })
  await post('sessions', { browser: 'Firefox' })
  const service = await openPushService(t)
  await post('push-subscriptions', { subscription: JSON.stringify(service.newBrowser().subscription) })
  await stage.ring('kiosk')
  const wrong = { scope: 'openid', login_hint: 'ana', user_code: 'wrong' }
  assert.equal((await stage.post('/backchannel/authorize', wrong, basic('booth-client', secret))).status, 400)
  const leaving = openVisitor(stage.url)
  await leaving.signIn(ben)
  await leaving.post('/session/end', { form_token: formTokenOn(await leaving.get('/')) })
  await byCommand(stage, async ({ addDora, database, endUser }) => {
    const now = stage.clock.now()
    await createInitialAccessStore(database).add(newSecret(), 1, now, now + 3_600_000)
    await addDora()
    await endUser(dora.id, 'locked', { by: 'command' })
  })
}

async function triedByStrangers(stage: Stage): Promise<void> {
  await openVisitor(stage.url).signIn({ username: 'ana', password: 'wrong' })
  const metadata = { redirect_uris: ['https://a.example/cb'], grant_types: ['authorization_code'] }
  const { status } = await fetch(`${stage.url}/oauth/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(metadata),
  })
  assert.equal(status, 201)
}
