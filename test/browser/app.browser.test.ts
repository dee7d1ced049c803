/** The pages of the consent app beside the request page: open requests, activity, passkeys, numbers, notifications. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import type { Page } from 'playwright-core'
import type { ConfigInput } from '../../src/config/config.ts'
import { openChromium, press, readPage, says, seesHeading, signInAs } from '../support/chromium.ts'
import { collect, playedBy, refusalOf } from '../support/foreign-client.ts'
import { openPushService } from '../support/push-service.ts'
import { ana, ben, openStage } from '../support/stage.ts'

describe('open requests', () => {
  test('a new request appears by itself, and disappears when it is decided elsewhere', async (t) => {
    const { stage, page } = await atHome(t)
    assert.ok((await readPage(page)).includes(says('waiting.none')))
    await stage.ring('kiosk')
    await page.getByRole('heading', { level: 2, name: 'Kiosk' }).waitFor()
    assert.ok((await readPage(page)).includes('Coffee 4.20'))
    await stage.ring('northbank', { binding_message: 'Loan 7' })
    await page.getByRole('heading', { level: 2, name: 'Northbank' }).waitFor()

    await stage.decide(await stage.newestRequest(), 'denied')
    await page.getByRole('heading', { level: 2, name: 'Northbank' }).waitFor({ state: 'detached' })
    await page.getByRole('link', { name: says('waiting.look') }).click()
    await seesHeading(page, says('approve.title', { client: 'Kiosk' }))
  })

  test('a request that arrives between the page and its event stream is not missed', async (t) => {
    const { stage, page } = await atHome(t)
    // Once, because an interrupted stream reconnects by itself.
    await page.route(
      '**/events',
      async (route) => {
        await stage.ring('kiosk')
        await route.continue()
      },
      { times: 1 },
    )
    await page.reload()
    await page.getByRole('heading', { level: 2, name: 'Kiosk' }).waitFor()
  })

  test('requests about another user do not appear', async (t) => {
    const { stage, page } = await atHome(t)
    await stage.ring('kiosk', { login_hint: ben.email, binding_message: 'for Ben' })
    await stage.ring('kiosk', { binding_message: 'for Ana' })
    await page.getByText('for Ana').waitFor()
    assert.ok(!(await page.content()).includes('for Ben'))
  })
})

describe('activity', () => {
  test('Ana revokes access: the tokens are invalid from then on', async (t) => {
    const { stage, page } = await atHome(t)
    const client = await playedBy(stage, 'kiosk')
    const response = await openid.initiateBackchannelAuthentication(client, {
      scope: 'openid offline_access',
      login_hint: ana.email,
      binding_message: 'Parking',
    })
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    await press(page, says('approve.approve'))
    const tokens = await collect(client, response)
    assert.equal((await openid.tokenIntrospection(client, tokens.access_token)).active, true)

    await page.goto(`${stage.url}/activity`)
    const text = await readPage(page)
    for (const part of ['Kiosk', 'Parking', says('activity.approved'), says('activity.in_use')]) {
      assert.ok(text.includes(part), part)
    }
    await press(page, says('activity.revoke'))
    assert.equal(await page.getByRole('status').textContent(), says('activity.revoked'))
    assert.equal(await page.getByRole('button', { name: says('activity.revoke') }).count(), 0)
    assert.equal((await openid.tokenIntrospection(client, tokens.access_token)).active, false)
    assert.equal((await refusalOf(openid.refreshTokenGrant(client, tokens.refresh_token!))).error, 'invalid_grant')
  })

  test('Ana blocks a client: it can send no requests about her; she unblocks it, and it can', async (t) => {
    const { stage, page } = await atHome(t)
    await stage.ring('kiosk')
    await stage.decide(await stage.newestRequest(), 'denied')
    await page.goto(`${stage.url}/activity`)
    await press(page, says('activity.block', { client: 'Kiosk' }))
    assert.equal(await page.getByRole('status').textContent(), says('activity.blocked', { client: 'Kiosk' }))
    const refused = await stage.ring('kiosk')
    assert.notEqual(refused.status, 200)
    assert.equal((await stage.waiting()).filter(({ status }) => status === 'pending').length, 0)
    assert.equal((await stage.ring('northbank')).status, 200, 'others can')

    await press(page, says('activity.unblock', { client: 'Kiosk' }))
    assert.equal(await page.getByRole('status').textContent(), says('activity.unblocked', { client: 'Kiosk' }))
    assert.equal((await stage.ring('kiosk')).status, 200)
  })
})

describe('number matching', () => {
  const config: ConfigInput = { requests: { numberMatching: true } }

  test('the right number approves', async (t) => {
    const { stage, page } = await atHome(t, config)
    const response = await stage.ring('kiosk', { binding_message: '4711' })
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    const numbers = await page.locator('button.number').allTextContents()
    assert.equal(numbers.length, 3)
    assert.deepEqual(numbers, numbers.toSorted(), 'their order reveals nothing')
    await press(page, '4711')
    await seesHeading(page, says('outcome.approved_title'))
    assert.equal((await stage.poll('kiosk', response.body.auth_req_id)).status, 200)
  })

  test('a wrong one denies, and the page says so', async (t) => {
    const { stage, page } = await atHome(t, config)
    const response = await stage.ring('kiosk', { binding_message: '4711' })
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    const numbers = await page.locator('button.number').allTextContents()
    await press(page, numbers.find((number) => number !== '4711')!)
    await seesHeading(page, says('outcome.wrong_number_title'))
    assert.equal((await stage.poll('kiosk', response.body.auth_req_id)).body.error, 'access_denied')
  })
})

describe('on the phone', () => {
  test('the app can be installed: it has a manifest, an icon and a service worker', async (t) => {
    const { page } = await atHome(t)
    const state = await page.evaluate(
      'navigator.serviceWorker.ready.then(({ scope, active }) => [scope, active.scriptURL])',
    )
    const { origin } = new URL(page.url())
    assert.deepEqual(state, [`${origin}/`, `${origin}/service-worker.js`])

    const devtools = await page.context().newCDPSession(page)
    const { url, errors, data } = await devtools.send('Page.getAppManifest')
    assert.deepEqual([url, errors], [`${origin}/manifest.webmanifest`, []])
    const manifest = JSON.parse(data!) as { name: string; display: string; icons: { src: string }[] }
    assert.deepEqual([manifest.name, manifest.display], ['Doorbell', 'standalone'])
    const icon = await page.request.get(new URL(manifest.icons[0]!.src, url).href)
    assert.equal(icon.headers()['content-type'], 'image/svg+xml')
    const { installabilityErrors } = await devtools.send('Page.getInstallabilityErrors')
    // A test's context is a private window, which can install nothing.
    assert.deepEqual(
      installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== 'in-incognito'),
      [],
    )
  })

  test('Ana enables notifications: her subscription gets messages, and is deleted when she disables them', async (t) => {
    const { stage, page, subscriber } = await atHomeWithPush(t)
    await press(page, says('push.offer'))
    await page.getByText(says('push.on')).waitFor()
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    assert.equal(subscriber.received[0]?.message.body, 'Coffee 4.20')
    assert.equal(subscriber.received[0]?.message.link, `${stage.url}/approve/${await stage.newestRequest()}`)

    await press(page, says('push.off'))
    await page.getByRole('button', { name: says('push.offer') }).waitFor()
    await stage.ring('kiosk')
    await stage.doorbell.idle()
    assert.equal(subscriber.received.length, 1)
  })

  test('Ana signs out, Ben signs in: her messages stop; his begin only when he enables them', async (t) => {
    const { stage, page, told, isSubscribed } = await atHomeWithPush(t)
    await press(page, says('push.offer'))
    await page.getByText(says('push.on')).waitFor()
    assert.deepEqual([await told(ana), await isSubscribed()], [1, true])
    await press(page, says('app.sign_out'))
    await seesHeading(page, says('sign_in.title'))
    assert.deepEqual([await told(ana), await isSubscribed()], [0, false])

    await signInAs(page, ben)
    await page.goto(stage.url)
    await page.getByRole('button', { name: says('push.offer') }).waitFor()
    assert.equal(await told(ben), 0)
    await press(page, says('push.offer'))
    await page.getByText(says('push.on')).waitFor()
    assert.deepEqual([await told(ana), await told(ben)], [0, 1])
  })

  test('Ana does not sign out, her cookies go, Ben signs in: the page ends her subscription', async (t) => {
    const { stage, page, told, isSubscribed } = await atHomeWithPush(t)
    await press(page, says('push.offer'))
    await page.getByText(says('push.on')).waitFor()
    await page.context().clearCookies()
    await page.goto(stage.url)
    assert.equal(await told(ana), 1)
    await signInAs(page, ben)
    await page.getByRole('button', { name: says('push.offer') }).waitFor()
    assert.deepEqual([await told(ana), await told(ben), await isSubscribed()], [0, 0, false])
  })

  test('a push message becomes a notification, and a click on it opens the request without a decision', async (t) => {
    const { stage, page } = await atHome(t)
    await page.context().grantPermissions(['notifications'])
    await stage.ring('kiosk')
    const id = await stage.newestRequest()
    const message = {
      request_id: id,
      title: 'Kiosk asks',
      body: 'Coffee 4.20',
      link: `${stage.url}/approve/${id}`,
      tag: id,
    }

    await page.evaluate('navigator.serviceWorker.ready')
    const worker = page.context().serviceWorkers()[0] ?? (await page.context().waitForEvent('serviceworker'))
    await worker.evaluate(`new Promise((resolve) => {
      const event = new PushEvent('push', { data: ${JSON.stringify(JSON.stringify(message))} })
      event.waitUntil = resolve
      self.dispatchEvent(event)
    })`)
    const shown = await worker.evaluate(`self.registration.getNotifications().then((all) =>
      all.map(({ title, body, tag, data }) => ({ title, body, tag, data })))`)
    const { title, body, tag, link } = message
    assert.deepEqual(shown, [{ title, body, tag, data: { link } }])

    const opened = await worker.evaluate(`new Promise(async (resolve) => {
      // A window may be opened only after a real click.
      self.clients.openWindow = resolve
      const [notification] = await self.registration.getNotifications()
      self.dispatchEvent(Object.assign(new NotificationEvent('notificationclick', { notification }), { waitUntil() {} }))
    })`)
    assert.equal(opened, link)
    assert.equal((await stage.waiting())[0]!.status, 'pending')
  })
})

/** Ana, signed in, on the start page. */
async function atHome(t: TestContext, config: ConfigInput = {}, prepare?: (page: Page) => Promise<unknown>) {
  const stage = await openStage(t, { config })
  const page = await (await openChromium(t)).newPage()
  await prepare?.(page)
  await page.goto(stage.url)
  await signInAs(page, ana)
  await seesHeading(page, says('waiting.title'))
  return { stage, page }
}

/** Headless Chromium has no push service: `subscribe` is simulated, everything after it is real. */
async function atHomeWithPush(t: TestContext) {
  const subscriber = (await openPushService(t)).newBrowser()
  const { stage, page } = await atHome(t, { webPush: { subject: 'mailto:ops@example.com' } }, async (page) => {
    await page.addInitScript(`
      const made = () => {
        const kept = sessionStorage.getItem('subscription')
        const unsubscribe = async () => sessionStorage.removeItem('subscription')
        return kept && { ...JSON.parse(kept), toJSON: () => JSON.parse(kept), unsubscribe }
      }
      PushManager.prototype.getSubscription = async () => made()
      PushManager.prototype.subscribe = async (options) => {
        if (!options.userVisibleOnly || options.applicationServerKey.length < 80) throw new Error('asked wrongly')
        sessionStorage.setItem('subscription', ${JSON.stringify(JSON.stringify(subscriber.subscription))})
        return made()
      }`)
  })
  return {
    stage,
    page,
    subscriber,
    isSubscribed: () => page.evaluate(`sessionStorage.getItem('subscription') !== null`),
    /** Sends a request about this user, and returns the number of messages that this browser got. */
    async told(who: typeof ana | typeof ben) {
      const before = subscriber.received.length
      await stage.ring('kiosk', { login_hint: who.email })
      await stage.doorbell.idle()
      return subscriber.received.length - before
    },
  }
}
