/** Subscriptions that the push service refuses permanently, and mail addresses that the mail server cannot handle. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createPushSubscriptionStore } from '../../src/authentication-device/channels/push-subscription-store.ts'
import { createPushSubscriptions } from '../../src/authentication-device/channels/push-subscriptions.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openMailServer } from '../support/mail-server.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, ben, openStage, type Stage, type StageOptions } from '../support/stage.ts'

const webPush = { subject: 'mailto:ops@id.example' }
const from = 'Doorbell <no-reply@id.example>'

/** Responses of push services to messages for a subscription that was made with another VAPID key. */
const refusals: [name: string, status: number, body: string][] = [
  ['Apple', 400, '{"reason":"VapidPkHashMismatch"}'],
  [
    'Mozilla',
    401,
    '{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID public key mismatch","more_info":"http://autopush.readthedocs.io/en/latest/http.html#error-codes"}',
  ],
  [
    'Google',
    403,
    'the VAPID credentials in the authorization header do not correspond to the credentials used to create the subscriptions.\n',
  ],
  ['a service that has moved', 301, ''],
  ['a service that no longer knows the method', 405, ''],
]

for (const engine of engines) {
  describe(`a push subscription that is refused permanently, on ${engine.name}`, () => {
    for (const [name, status, body] of refusals) {
      test(`${status} by ${name}: removed after three messages, and the user is reported as unreachable`, async (t) => {
        const { stage, subscriptions, open } = await setUp(t, engine)
        const browser = await open()
        browser.answers(status, body)
        for (const [attempt, kept] of [
          [1, 1],
          [2, 1],
          [3, 0],
        ] as const) {
          await ring(stage)
          assert.equal(browser.received.length, attempt)
          assert.equal((await subscriptions.of(ana.id)).length, kept)
          assert.equal(logged(stage, 'device.unreachable').length, kept === 0 ? 1 : 0)
        }
        const [told] = logged(stage, 'device.unreachable')
        const newest = await stage.newestRequest()
        assert.deepEqual([told!.request, told!.user, told!.client, told!.by], [newest, ana.id, 'kiosk', 'web_push'])
        await ring(stage)
        assert.equal(browser.received.length, 3, 'nothing is sent there any more')
      })
    }

    test('at an address that must not be called: removed too, and the next request reports it again', async (t) => {
      const nowhere = 'https://client.example/notify'
      const options = { northbank: nowhere, till: nowhere }
      const config = { development: false, issuer: 'https://id.example' }
      const { stage, subscriptions, open } = await setUp(t, engine, config, options)
      await open()
      const ringLater = async () => {
        // Outside development, the number of open requests of a client is limited.
        stage.clock.advance(120_000)
        await ring(stage, { requested_expiry: '120' })
      }
      for (let n = 0; n < 3; n++) await ringLater()
      assert.equal((await subscriptions.of(ana.id)).length, 0)
      assert.equal(logged(stage, 'device.unreachable').length, 1)
      await ringLater()
      assert.equal(logged(stage, 'device.unreachable').length, 2)
    })

    test('a message that is accepted in between ends the count', async (t) => {
      const { stage, subscriptions, open } = await setUp(t, engine)
      const browser = await open()
      for (const status of [403, 403, 201, 403, 403]) {
        browser.answers(status)
        await ring(stage)
      }
      assert.equal((await subscriptions.of(ana.id)).length, 1)
      browser.answers(403)
      await ring(stage)
      assert.equal((await subscriptions.of(ana.id)).length, 0)
    })

    test('a browser that subscribes again starts a new count', async (t) => {
      const { stage, subscriptions, open } = await setUp(t, engine)
      const browser = await open()
      browser.answers(401)
      await ring(stage)
      await ring(stage)
      await subscriptions.add(ana.id, browser.subscription)
      await ring(stage)
      assert.equal((await subscriptions.of(ana.id)).length, 1)
    })

    test('temporary failures and messages that are too long do not count', async (t) => {
      const { stage, subscriptions, open } = await setUp(t, engine)
      const browser = await open()
      for (const status of [500, 503, 429, 413, 413, 413]) {
        browser.answers(status)
        await ring(stage)
      }
      assert.equal((await subscriptions.of(ana.id)).length, 1)
    })

    test('a subscription with an invalid key is removed too', async (t) => {
      const { stage, subscriptions } = await setUp(t, engine)
      const keys = { p256dh: Buffer.alloc(65, 1).toString('base64url'), auth: Buffer.alloc(16).toString('base64url') }
      await subscriptions.add(ana.id, { endpoint: 'https://push.example/x', keys })
      for (let n = 0; n < 3; n++) await ring(stage)
      assert.equal((await subscriptions.of(ana.id)).length, 0)
      assert.equal(logged(stage, 'device.unreachable').length, 1)
    })

    test('another browser or a mail address reaches the user, who is then not reported as unreachable', async (t) => {
      const server = await openMailServer(t)
      const { stage, subscriptions, open } = await setUp(t, engine, { email: { smtp: server.url, from } })
      const browser = await open()
      browser.answers(403)
      for (let n = 0; n < 3; n++) await ring(stage)
      assert.equal((await subscriptions.of(ana.id)).length, 0)
      assert.equal(logged(stage, 'device.unreachable').length, 0)
    })

    test('the last subscription no longer exists (410): this is reported at once', async (t) => {
      const { stage, open } = await setUp(t, engine)
      ;(await open()).answers(410)
      await ring(stage)
      assert.equal(logged(stage, 'device.unreachable').length, 1)
    })
  })

  describe(`a mail address beyond ASCII, on ${engine.name}`, () => {
    for (const email of [
      'jörg@example.com',
      'josé.garcía@correo.example',
      '用户@例子.广告',
      'δοκιμή@παράδειγμα.δοκιμή',
      'ØDEGÅRD@EXAMPLE.NO',
    ]) {
      test(`${email}: parked with the reason, at a server without SMTPUTF8`, async (t) => {
        const server = await openMailServer(t, { smtpUtf8: false })
        const stage = await openStage(t, { engine, config: mailedTo(email, server.url) })
        await ring(stage)
        assert.equal(server.mails.length, 0)
        const [parked] = logged(stage, 'notification.parked')
        assert.deepEqual(
          [parked?.by, parked?.outcome],
          ['email', 'the mail server does not support SMTPUTF8, which the mail address needs'],
        )
        assert.ok(!stage.logLines.join('').includes(email))
      })

      test(`${email}: delivered, at a server with SMTPUTF8`, async (t) => {
        const server = await openMailServer(t)
        const stage = await openStage(t, { engine, config: mailedTo(email, server.url) })
        await ring(stage)
        assert.equal(server.mails.length, 1)
      })
    }

    test('only the domain is beyond ASCII: delivered at a server without SMTPUTF8', async (t) => {
      const server = await openMailServer(t, { smtpUtf8: false })
      const stage = await openStage(t, { engine, config: mailedTo('info@müller.example', server.url) })
      await ring(stage)
      assert.equal(server.mails.length, 1)
      assert.match(server.mails[0]!.raw, /^To: info@xn--mller-kva\.example\r$/m)
    })

    test('the sender of the configuration is beyond ASCII: parked with the reason', async (t) => {
      const server = await openMailServer(t, { smtpUtf8: false })
      const email = { smtp: server.url, from: 'Bank <größe@bank.example>' }
      const stage = await openStage(t, { engine, config: { ...mailedTo('ana@example.com', server.url), email } })
      await ring(stage)
      assert.match(String(logged(stage, 'notification.parked')[0]?.outcome), /SMTPUTF8/)
    })
  })
}

const mailedTo = (email: string, smtp: string): ConfigInput => ({
  email: { smtp, from },
  users: [{ ...ana, email }, ben],
})

async function setUp(t: TestContext, engine: Engine, config: ConfigInput = {}, options: StageOptions = {}) {
  const service = await openPushService(t)
  const stage = await openStage(t, { ...options, engine, config: { webPush, ...config } })
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
  t.after(() => database.close())
  const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
  const subscriptions = createPushSubscriptions({
    store: createPushSubscriptionStore(database),
    vault,
    clock: stage.clock,
  })
  const open = async () => {
    const browser = service.newBrowser()
    await subscriptions.add(ana.id, browser.subscription)
    return browser
  }
  return { stage, subscriptions, open }
}

async function ring(stage: Stage, more: Record<string, string> = {}): Promise<void> {
  const { status, text } = await stage.ring('kiosk', { login_hint: 'ana', ...more })
  assert.equal(status, 200, text)
  await stage.doorbell.idle()
}

function logged(stage: Stage, event: string): Record<string, unknown>[] {
  return stage.logLines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line.event === event)
}
