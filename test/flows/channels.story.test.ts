import assert from 'node:assert/strict'
import { createHmac, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { importJWK, jwtVerify } from 'jose'
import { Webhook } from 'standardwebhooks'
import { createPushSubscriptionStore } from '../../src/authentication-device/channels/push-subscription-store.ts'
import { createPushSubscriptions } from '../../src/authentication-device/channels/push-subscriptions.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { PendingRequest, User } from '../../src/user/user.ts'
import { engines } from '../support/engines.ts'
import { openMailServer } from '../support/mail-server.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'

const minute = 60_000
/** Milliseconds: longer than the first pause between attempts, and shorter than the lease of an attempt. */
const aMoment = 1_000
const from = 'Doorbell <no-reply@id.example>'

/** Lines of the log with this event. */
function logged(stage: Stage, event: string): Record<string, unknown>[] {
  return stage.logLines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line.event === event)
}

describe('by mail', () => {
  test('a German user gets text and HTML in German, with the request and the link to decide', async (t) => {
    const server = await openMailServer(t)
    const config: ConfigInput = { email: { smtp: server.url, from }, users: [{ ...ana, locale: 'de-AT' }, ben] }
    const stage = await openStage(t, { config })

    const bindingMessage = 'Kaffee <b>4,20</b> & "mehr"'
    const response = await stage.ring('kiosk', { binding_message: bindingMessage })
    await stage.doorbell.idle()
    const id = await stage.newestRequest()

    const [mail, ...others] = server.mails
    assert.equal(others.length, 0)
    assert.deepEqual(mail!.to, [ana.email])
    assert.equal(mail!.headers.from, from)
    assert.equal(mail!.headers['auto-submitted'], 'auto-generated')
    assert.match(mail!.headers['message-id']!, /^<[0-9a-f-]{36}@localhost>$/)
    assert.equal(mail!.subject, 'Kiosk bittet um Ihre Freigabe')

    const link = `${stage.url}/approve/${id}`
    assert.match(mail!.text, /^Guten Tag Ana,\n/)
    assert.ok(mail!.text.includes(`\n    ${bindingMessage}\n`), mail!.text)
    assert.ok(mail!.text.includes(`\n${link}\n`))
    assert.match(mail!.text, /bis \d{1,2}\. \w+ \d{4} um \d{2}:\d{2} UTC entscheiden/)

    assert.match(mail!.html, /<html lang="de">/)
    assert.ok(mail!.html.includes('Kaffee &lt;b&gt;4,20&lt;/b&gt; &amp; &quot;mehr&quot;'), mail!.html)
    assert.ok(mail!.html.includes(`href="${link}"`))

    const everything = mail!.raw + mail!.text + mail!.html
    for (const secret of [String(response.body.auth_req_id), ana.password]) assert.ok(!everything.includes(secret))

    const { body } = await stage.get('/dev/mailbox', { accept: 'application/json' })
    const [kept] = body.mails as Record<string, string>[]
    assert.deepEqual([kept?.subject, kept?.html?.trim()], [mail!.subject, mail!.html.trim()])
  })

  test('other users get it in English, with the texts that the operator has replaced', async (t) => {
    const server = await openMailServer(t)
    const texts = await mkdtemp(join(tmpdir(), 'doorbell-texts-'))
    t.after(() => rm(texts, { recursive: true }))
    await writeFile(join(texts, 'en.json'), JSON.stringify({ mail: { open: 'Have a look' } }))
    const stage = await openStage(t, { config: { texts, email: { smtp: server.url, from } } })
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    assert.equal(server.mails[0]?.subject, 'Kiosk asks for your approval')
    assert.match(server.mails[0]!.text, /Have a look:\n/)
    assert.match(server.mails[0]!.text, /You can decide until .* UTC\./)
  })

  test('after an hour in which the mail server is down, the mail arrives', async (t) => {
    const server = await openMailServer(t)
    const stage = await openStage(t, { config: { email: { smtp: server.url, from } } })
    await server.stop()

    assert.equal((await stage.ring('kiosk', { requested_expiry: '7200' })).status, 200)
    for (let minutes = 0; minutes < 60; minutes++) {
      await stage.doorbell.idle()
      stage.clock.advance(minute)
    }
    assert.equal(server.mails.length, 0)
    assert.ok(logged(stage, 'notification.failed').length > 30)

    await server.start()
    stage.clock.advance(minute)
    await stage.doorbell.idle()
    assert.equal(server.mails.length, 1)
  })

  test('a permanently refused recipient parks the mail, with the reason and without the address', async (t) => {
    const server = await openMailServer(t)
    const stage = await openStage(t, { config: { email: { smtp: server.url, from } } })
    server.refuses(`550 5.1.1 <${ana.email}> no such person`)
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    const [parked] = logged(stage, 'notification.parked')
    assert.deepEqual([parked?.by, parked?.outcome], ['email', 'the mail server answered 550 (5.1.1)'])
    assert.ok(!stage.logLines.join('').includes(ana.email))
  })

  test('a temporarily refused recipient is tried again', async (t) => {
    const server = await openMailServer(t)
    const stage = await openStage(t, { config: { email: { smtp: server.url, from } } })
    server.refuses('451 4.7.1 greylisted, come back')
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    assert.equal(logged(stage, 'notification.failed')[0]?.outcome, 'the mail server answered 451 (4.7.1)')
    server.refuses(undefined)
    stage.clock.advance(aMoment)
    await stage.doorbell.idle()
    assert.equal(server.mails.length, 1)
  })
})

/** Subscribes as the consent app would. */
async function subscriptionsOn(t: TestContext, stage: Stage) {
  const log = createLog('silent')
  const database = await openDatabase(stage.database, { log, clock: stage.clock })
  t.after(() => database.close())
  const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
  return createPushSubscriptions({ store: createPushSubscriptionStore(database), vault, clock: stage.clock })
}

for (const engine of engines) {
  describe(`by web push, on ${engine.name}`, () => {
    const subject = 'mailto:ops@id.example'

    async function setUp(t: TestContext) {
      const service = await openPushService(t)
      const stage = await openStage(t, {
        engine,
        config: { webPush: { subject }, users: [{ ...ana, locale: 'de' }, ben] },
      })
      const subscriptions = await subscriptionsOn(t, stage)
      const open = async (userId = ana.id) => {
        const browser = service.newBrowser()
        await subscriptions.add(userId, browser.subscription)
        return browser
      }
      return { service, stage, subscriptions, open }
    }

    test('only the browser can read the message; the push service can identify the sender', async (t) => {
      const { service, stage, open } = await setUp(t)
      const browser = await open()
      const response = await stage.ring('kiosk', { requested_expiry: '120' })
      await stage.doorbell.idle()

      const id = await stage.newestRequest()
      const [pushed, ...others] = browser.received
      assert.equal(others.length, 0)
      assert.deepEqual(pushed!.message, {
        request_id: id,
        title: 'Kiosk bittet um Ihre Freigabe',
        body: 'Coffee 4.20',
        link: `${stage.url}/approve/${id}`,
        tag: id,
        actions: [
          { action: 'approve', title: 'Freigeben' },
          { action: 'deny', title: 'Ablehnen' },
        ],
      })
      assert.deepEqual([pushed!.headers.ttl, pushed!.headers.urgency], ['120', 'high'])
      assert.ok(!JSON.stringify(pushed!.message).includes(String(response.body.auth_req_id)))

      const [, token = '', key = ''] = /^vapid t=([\w.-]+), k=([\w-]+)$/.exec(pushed!.headers.authorization!) ?? []
      const point = Buffer.from(key, 'base64url')
      const [x, y] = [point.subarray(1, 33).toString('base64url'), point.subarray(33).toString('base64url')]
      const { payload } = await jwtVerify(token, await importJWK({ kty: 'EC', crv: 'P-256', x, y }, 'ES256'), {
        audience: service.origin,
      })
      assert.equal(payload.sub, subject)

      await stage.restart()
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      assert.ok(browser.received[1]?.headers.authorization?.endsWith(`k=${key}`), 'the key stays the same')
    })

    test('one browser that accepts it is enough; expired subscriptions are removed', async (t) => {
      const { stage, subscriptions, open } = await setUp(t)
      const [gone, failing, well] = [await open(), await open(), await open()]
      gone.answers(410)
      failing.answers(500)
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      stage.clock.advance(5 * minute)
      await stage.doorbell.idle()

      assert.deepEqual(
        [gone, failing, well].map(({ received }) => received.length),
        [1, 1, 1],
      )
      const kept = (await subscriptions.of(ana.id)).map(({ endpoint }) => endpoint)
      assert.deepEqual(kept.sort(), [failing, well].map(({ subscription }) => subscription.endpoint).sort())
    })

    test('it is retried until a browser accepts it', async (t) => {
      const { stage, open } = await setUp(t)
      const browser = await open()
      browser.answers(503)
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      browser.answers(201)
      stage.clock.advance(aMoment)
      await stage.doorbell.idle()
      stage.clock.advance(minute)
      await stage.doorbell.idle()
      assert.equal(browser.received.length, 2)
    })

    test('a subscription belongs to the user who subscribed last', async (t) => {
      const { stage, subscriptions, open } = await setUp(t)
      const browser = await open(ana.id)
      await subscriptions.add(ben.id, browser.subscription)
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      assert.equal(browser.received.length, 0)
      await stage.ring('kiosk', { login_hint: ben.username })
      await stage.doorbell.idle()
      assert.equal(browser.received.length, 1)
    })
  })
}

describe('by a device service', () => {
  const secret = newSecret()
  const whsec = `whsec_${randomBytes(32).toString('base64')}`

  /** Checks the signature in the older header as a receiver does (docs/guides/device-channels.md). */
  function isGenuine(header: string, body: string, now: number): boolean {
    const [, time = '', given = ''] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? []
    const expected = createHmac('sha256', secret).update(`${time}.${body}`).digest('hex')
    return given === expected && Math.abs(now / 1000 - Number(time)) <= 300
  }

  test('it receives everything it needs, signed, without secrets', async (t) => {
    const service = await openNotificationEndpoint(t)
    const stage = await openStage(t, { config: { deviceWebhook: { url: service.url, secret } } })
    const response = await stage.ring('kiosk')
    await stage.doorbell.idle()

    const [call, ...others] = service.heard
    assert.equal(others.length, 0)
    const now = Math.floor(stage.clock.now() / 1000)
    assert.deepEqual(call!.body, {
      event: 'request.pending',
      request_id: await stage.newestRequest(),
      user_id: ana.id,
      client: { client_id: 'kiosk', client_name: 'Kiosk' },
      scope: 'openid',
      binding_message: 'Coffee 4.20',
      created_at: now,
      expires_at: now + 600,
    })
    assert.ok(!call!.text.includes(String(response.body.auth_req_id)))

    const header = String(call!.headers['doorbell-signature'])
    assert.ok(isGenuine(header, call!.text, stage.clock.now()))
    assert.ok(!isGenuine(header, call!.text.replace('kiosk', 'kiosc'), stage.clock.now()))
    const later = stage.clock.now() + 10 * minute
    assert.ok(!isGenuine(header, call!.text, later), 'repeated later as it was')
    const redated = header.replace(/t=\d+/, `t=${Math.floor(later / 1000)}`)
    assert.ok(!isGenuine(redated, call!.text, later), 'repeated later with another time')
  })

  for (const { form, configured, received } of [
    { form: 'text', configured: secret, received: `whsec_${Buffer.from(secret).toString('base64')}` },
    { form: 'the form of the standard', configured: whsec, received: whsec },
  ]) {
    test(`a receiver that uses the package standardwebhooks verifies it; the secret is ${form}`, async (t) => {
      const service = await openNotificationEndpoint(t)
      const stage = await openStage(t, { config: { deviceWebhook: { url: service.url, secret: configured } } })
      service.behaves(503, 204)
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      stage.clock.advance(aMoment)
      await stage.doorbell.idle()

      const webhook = new Webhook(received)
      // The package reads `Date`, so `Date` is set to the time of the stage.
      t.mock.timers.enable({ apis: ['Date'], now: stage.clock.now() })
      const [first, again] = service.heard.map(({ text, headers }) => ({
        text,
        headers: headers as Record<string, string>,
      }))
      assert.deepEqual(webhook.verify(first!.text, first!.headers), service.heard[0]!.body)
      webhook.verify(again!.text, again!.headers)
      assert.equal(again!.headers['webhook-id'], first!.headers['webhook-id'], 'a repetition is detected')
      assert.throws(
        () => webhook.verify(first!.text.replace('kiosk', 'kiosc'), first!.headers),
        /No matching signature/,
      )
      const renamed = { ...first!.headers, 'webhook-id': 'another' }
      assert.throws(() => webhook.verify(first!.text, renamed), /No matching signature/)
      t.mock.timers.setTime(stage.clock.now() + 10 * minute)
      assert.throws(() => webhook.verify(first!.text, first!.headers), /too old/)
    })
  }

  test('its answers: 503 is retried, 403 parks the message for the operator', async (t) => {
    const service = await openNotificationEndpoint(t)
    const stage = await openStage(t, { config: { deviceWebhook: { url: service.url, secret } } })
    service.behaves(503, 204, 403)
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    stage.clock.advance(aMoment)
    await stage.doorbell.idle()
    assert.equal(service.heard.length, 2)
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    assert.equal(logged(stage, 'notification.parked')[0]?.outcome, 'answered 403')
  })
})

describe('by the hook notify', () => {
  function hooks(notify: (request: PendingRequest, user: User) => Promise<void>) {
    return { findByHint: async () => ana, find: async () => ana, notify }
  }

  test('it is called once, with the request and the user', async (t) => {
    const calls: [PendingRequest, User][] = []
    const stage = await openStage(t, { config: { users: hooks(async (...call) => void calls.push(call)) } })
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    stage.clock.advance(minute)
    await stage.doorbell.idle()
    assert.equal(calls.length, 1)
    const [request, user] = calls[0]!
    assert.deepEqual([request.request_id, request.client.client_id], [await stage.newestRequest(), 'kiosk'])
    assert.equal(user.id, ana.id)
  })

  test('an error it throws leads to a retry', async (t) => {
    let calls = 0
    const notify = async () => {
      calls += 1
      if (calls === 1) throw new Error('the pigeon is ill')
    }
    const stage = await openStage(t, { config: { users: hooks(notify) } })
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    assert.equal(logged(stage, 'notification.failed')[0]?.outcome, 'the hook threw an error')
    stage.clock.advance(aMoment)
    await stage.doorbell.idle()
    assert.equal(calls, 2)
  })
})

test('a user without any channel: an error is logged, and the request can still be decided', async (t) => {
  const nowhere = 'https://client.example/notify'
  const stage = await openStage(t, {
    northbank: nowhere,
    till: nowhere,
    config: {
      development: false,
      issuer: 'https://id.example',
      webPush: { subject: 'mailto:ops@id.example' },
      email: { smtp: 'smtp://127.0.0.1:9', from },
      users: [{ id: ana.id, username: ana.username, password: ana.password }],
    },
  })
  const response = await stage.ring('kiosk', { login_hint: 'ana' })
  assert.equal(response.status, 200)
  const id = await stage.newestRequest()
  const [line, ...others] = logged(stage, 'device.unreachable')
  assert.equal(others.length, 0)
  assert.deepEqual([line?.request, line?.level], [id, 50])

  assert.equal((await stage.decide(id, 'approved')).status, 200)
  assert.equal((await stage.poll('kiosk', response.body.auth_req_id)).status, 200)
})
