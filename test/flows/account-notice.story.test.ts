/**
 * Ana is notified when her account gets a new passkey, password or user code, whether she made the change or an
 * attacker did.
 */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { createPushSubscriptionStore } from '../../src/authentication-device/channels/push-subscription-store.ts'
import { createPushSubscriptions } from '../../src/authentication-device/channels/push-subscriptions.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import type { AccountChange, User } from '../../src/user/user.ts'
import { openTerminal } from '../cli/terminal.ts'
import { type CreationOptions, createAuthenticator } from '../support/authenticator.ts'
import { byCommand, dora } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openMailServer } from '../support/mail-server.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, ben, openStage, type Stage, type StageOptions } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

const hour = 3_600_000
const secret = newSecret()
const stageSecret = Buffer.alloc(32, 7).toString('base64url')
const firefox = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0' }
const from = 'Doorbell <no-reply@id.example>'

for (const engine of engines) {
  describe(`a change to an account is notified, on ${engine.name}`, () => {
    test('a new passkey: one mail, one web push message and one signed call, in her language and without secrets', async (t) => {
      const { stage, mails, calls, browser } = await scene(t, engine)
      const { authenticator, status } = await addPasskeyInApp(stage)
      assert.equal(status, 303)
      await stage.doorbell.idle()
      const link = `${stage.url}/sessions`
      const now = Math.floor(stage.clock.now() / 1000)
      const [passkey] = await rowsOf(stage, 'select id from passkeys')

      assert.deepEqual([mails.length, browser.received.length, calls.length], [1, 1, 1])
      const [mail] = mails
      assert.deepEqual(mail!.to, [ana.email])
      assert.equal(mail!.subject, 'Ihrem Konto wurde ein Passkey hinzugefügt')
      assert.match(mail!.text, /^Guten Tag Ana,\n/)
      assert.match(mail!.text, /\nZeitpunkt: \d{1,2}\. \w+ \d{4} um \d{2}:\d{2} UTC\nVon: Firefox · Linux\n/)
      assert.match(mail!.text, /Wenn Sie das nicht waren, .* Melden Sie sich überall ab/)
      assert.ok(mail!.text.endsWith(`Konto prüfen:\n${link}`), mail!.text)
      assert.match(mail!.html, /<html lang="de">/)
      assert.ok(mail!.html.includes(`href="${link}"`) && mail!.html.includes('Von: Firefox · Linux'), mail!.html)

      const { message, headers } = browser.received[0]!
      assert.deepEqual([message.title, message.link], [mail!.subject, link])
      assert.match(String(message.body), /^Zeitpunkt: .* · Von: Firefox · Linux\nWenn Sie das nicht waren/)
      assert.deepEqual([message.request_id, headers.ttl], [undefined, '86400'])

      const { body, text, headers: signed } = calls[0]!
      assert.deepEqual(body, {
        event: 'account.changed',
        id: body.id,
        type: 'passkey.added',
        browser: 'Firefox · Linux',
        user_id: ana.id,
        changed_at: now,
        link,
      })
      assert.equal(signed['doorbell-signature'], signatureOf(text, now))
      assert.equal(signed['webhook-id'], body.id)

      const everything = mail!.raw + mail!.text + mail!.html + text + JSON.stringify(message)
      for (const id of [passkey!.id, authenticator.credentialId]) assert.ok(!everything.includes(String(id)))
      const { body: box } = await stage.get('/dev/mailbox', { accept: 'application/json' })
      assert.deepEqual((box.mails as { subject: string }[])[0]?.subject, mail!.subject)
    })

    test('a user code: she is notified when it is set or changed, not when it is removed', async (t) => {
      const { stage, mails } = await scene(t, engine)
      const authorization = await bearerOf(stage)
      for (const user_code of ['pelican-0', 'pelican-1']) {
        assert.equal((await stage.post('/backchannel/user-code', { user_code }, authorization)).status, 200)
      }
      await stage.doorbell.idle()
      stage.clock.advance(hour / 12 + 15_000)
      const later = { user_code: 'pelican-2', present_code: 'pelican-1' }
      assert.equal((await stage.post('/backchannel/user-code', later, authorization)).status, 200)
      const removal = { present_code: 'pelican-2' }
      assert.equal((await stage.post('/backchannel/user-code/remove', removal, authorization)).status, 200)
      await stage.doorbell.idle()
      assert.deepEqual(
        mails.map(({ subject }) => subject),
        Array(3).fill('Für Ihr Konto wurde ein neuer Code festgelegt'),
      )
      assert.doesNotMatch(mails[0]!.text, /Von:|pelican/)
    })

    test('change and notification are one step: if the notification cannot be written, nothing changes', async (t) => {
      const { stage, mails, calls } = await scene(t, engine)
      const authorization = await bearerOf(stage)
      await byCommand(stage, async ({ database }) => {
        await database.exclusively((run) => run('alter table notifications rename to notifications_away'))
        const { status } = await addPasskey(stage, authorization)
        assert.equal(status, 500)
        const code = await stage.post('/backchannel/user-code', { user_code: 'pelican-0' }, authorization)
        assert.equal(code.status, 500)
        await database.exclusively((run) => run('alter table notifications_away rename to notifications'))
      })
      assert.deepEqual((await stage.get('/backchannel/passkeys', { authorization })).body.passkeys, [])
      assert.equal((await stage.get('/backchannel/user-code', { authorization })).body.set, false)
      await stage.doorbell.idle()
      assert.deepEqual([mails.length, calls.length], [0, 0])
    })

    test('a refused change is not notified: a passkey sent twice, and a passkey that belongs to Ben', async (t) => {
      const { stage, mails } = await scene(t, engine)
      const authenticator = createAuthenticator(stage.url)
      const [anas, bens] = [await bearerOf(stage), await bearerOf(stage, ben)]
      assert.equal((await addPasskey(stage, bens, authenticator)).status, 201)
      assert.equal((await addPasskey(stage, anas, authenticator)).status, 400)
      await stage.doorbell.idle()
      assert.deepEqual(
        mails.map(({ to }) => to),
        [[ben.email]],
      )
    })

    test('a password or user code set by command: the command writes the message, the running server sends it', async (t) => {
      const { stage, mails } = await scene(t, engine)
      await byCommand(stage, ({ addDora }) => addDora())
      const terminal = await openTerminal(t, { DOORBELL_SECRET: stageSecret, DOORBELL_DATABASE: stage.database })
      const settings = { issuer: 'https://id.example.com', email: { smtp: 'smtp://mail.example.com', from } }
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(settings))
      // The clock of the stage is advanced, so that a message that the command writes now is due on the server too.
      stage.clock.advance(hour)
      await terminal.json(['user', 'password', 'dora'])
      // On Postgres, a notification tells the server of the message. The server does not poll for messages, because its
      // clock stands still.
      if (engine.name === 'postgres') await until(() => mails.length === 1)
      await stage.doorbell.idle()
      assert.deepEqual(
        mails.map(({ to, subject }) => [to, subject]),
        [[[dora.email], 'A new password was set for your account']],
      )
      await terminal.json(['user', 'code', 'dora'])
      await terminal.json(['user', 'code', 'dora', '--remove'])
      await stage.doorbell.idle()
      assert.deepEqual(
        mails.slice(1).map(({ subject }) => subject),
        ['A new code was set for your account'],
      )
      await terminal.json(['user', 'lock', 'dora'])
      await terminal.json(['user', 'password', 'dora'])
      if (engine.name === 'postgres') await until(() => mails.length === 3)
      await stage.doorbell.idle()
      assert.equal(mails.length, 3, 'a locked user is notified too')
      const listed = await terminal.json(['outbox', 'list'])
      const about = (listed.notifications as Record<string, unknown>[]).map(({ user_id, request_id }) => [
        user_id,
        request_id,
      ])
      assert.deepEqual(about, Array(3).fill([dora.id, undefined]))
    })
  })
}

test('while the mail server is down, the mail is retried for one day; the log names the user and no request', async (t) => {
  const { stage, mailServer, mails } = await scene(t)
  await mailServer.stop()
  assert.equal((await addPasskey(stage, await bearerOf(stage))).status, 201)
  await stage.doorbell.idle()
  for (let minutes = 0; minutes < 30; minutes++) {
    stage.clock.advance(60_000)
    await stage.doorbell.idle()
  }
  assert.ok(told(stage, 'notification.failed').length > 20)
  stage.clock.advance(24 * hour)
  await stage.doorbell.idle()
  const parked = told(stage, 'notification.parked').map(({ by, user, request }) => ({ by, user, request }))
  assert.deepEqual(parked, [{ by: 'account_email', user: ana.id, request: undefined }])
  assert.equal(mails.length, 0)
})

for (const engine of engines) {
  test(`a notice that could not be sent is not sent to another person who gets the id, on ${engine.name}`, async (t) => {
    const { stage, mailServer, mails } = await scene(t, engine)
    await mailServer.stop()
    assert.equal((await addPasskey(stage, await bearerOf(stage))).status, 201)
    await stage.doorbell.idle()
    assert.equal(told(stage, 'notification.failed').length, 1)
    await stage.restart({ users: [ben] })
    stage.clock.advance(60_000)
    await mailServer.start()
    await stage.restart({ users: [{ ...ana, email: 'another@example.com' }, ben] })
    stage.clock.advance(hour)
    await stage.doorbell.idle()
    assert.deepEqual(mails, [])
    const about = await rowsOf(
      stage,
      "select kind, state, last_outcome from notifications where kind = 'account_email'",
    )
    assert.deepEqual(about, [{ kind: 'account_email', state: 'parked', last_outcome: 'the user no longer exists' }])
  })
}

describe("with the application's own users", () => {
  const users = (more: object) => {
    const found = async (user: User | null) => user
    return {
      findByHint: () => found(ana),
      find: () => found(ana),
      verifyPassword: async (_user: User, password: string) => password === ana.password,
      ...more,
    }
  }

  test('the hook notifyAccount is called with the change and the user, and again after it throws', async (t) => {
    const heard: [AccountChange, User][] = []
    const notifyAccount = async (...call: [AccountChange, User]) => {
      heard.push(call)
      if (heard.length === 1) throw new Error('the pigeon is ill')
    }
    const stage = await openStage(t, { config: { users: users({ notifyAccount }) } })
    assert.equal((await addPasskey(stage, await bearerOf(stage))).status, 201)
    await stage.doorbell.idle()
    stage.clock.advance(1_000)
    await stage.doorbell.idle()
    const changes = heard.map(([{ type, user_id }, user]) => [type, user_id, user.id])
    assert.deepEqual(changes, Array(2).fill(['passkey.added', ana.id, ana.id]))
    assert.equal(heard[0]![0].id, heard[1]![0].id)
  })

  test('the hook notify, which handles only requests, is not called', async (t) => {
    let calls = 0
    const notify = async () => void calls++
    const stage = await openStage(t, { config: { users: users({ notify }) } })
    assert.equal((await addPasskey(stage, await bearerOf(stage))).status, 201)
    await stage.doorbell.idle()
    assert.equal(calls, 0)
    assert.deepEqual(told(stage, 'notification.parked'), [])
  })
})

async function scene(t: TestContext, engine?: Engine) {
  const [mailServer, service, push] = [
    await openMailServer(t),
    await openNotificationEndpoint(t),
    await openPushService(t),
  ]
  const config: ConfigInput = {
    email: { smtp: mailServer.url, from },
    webPush: { subject: 'mailto:ops@id.example' },
    deviceWebhook: { url: service.url, secret },
    users: [{ ...ana, locale: 'de' }, ben],
  }
  const options: StageOptions = engine ? { engine, config } : { config }
  const stage = await openStage(t, options)
  const browser = push.newBrowser()
  await byCommand(stage, async ({ database }) => {
    const store = createPushSubscriptionStore(database)
    const subscriptions = createPushSubscriptions({ store, vault: createVault(stageSecret), clock: stage.clock })
    await subscriptions.add(ana.id, browser.subscription)
  })
  return { stage, mailServer, mails: mailServer.mails, calls: service.heard, browser }
}

/** Ana adds a passkey in a browser, on the page of the consent app. */
async function addPasskeyInApp(stage: Stage) {
  const visitor = openVisitor(stage.url, stage.url, firefox)
  const token = { form_token: formTokenOn(await visitor.signIn(ana, '/passkeys')) }
  const authenticator = createAuthenticator(stage.url)
  const options = JSON.parse((await visitor.post('/passkeys/options', token)).text) as CreationOptions
  const { status } = await visitor.post('/passkeys', { ...token, passkey: authenticator.create(options) })
  return { authenticator, status }
}

/** Ana adds a passkey through the device API. */
async function addPasskey(stage: Stage, authorization: string, authenticator = createAuthenticator(stage.url)) {
  const { body } = await stage.post('/backchannel/passkeys/options', {}, authorization)
  const passkey = authenticator.create(body as unknown as CreationOptions)
  return stage.post('/backchannel/passkeys', { passkey }, authorization)
}

/** Returns the signature of a body as docs/guides/device-channels.md describes it. */
function signatureOf(body: string, time: number): string {
  return `t=${time},v1=${createHmac('sha256', secret).update(`${time}.`).update(body).digest('hex')}`
}

function told(stage: Stage, event: string): Record<string, unknown>[] {
  return stage.logLines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line.event === event)
}
