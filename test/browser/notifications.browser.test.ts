/** Notifications of a browser: they go when their request is over, and the page says why they cannot be switched on. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Page } from 'playwright-core'
import { fingerprint } from '../../src/platform/crypto.ts'
import { openChromium, says, seesHeading, signInAs } from '../support/chromium.ts'
import { ana, openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

async function atHome(t: TestContext, script?: string) {
  const stage = await openStage(t, { config: { webPush: { subject: 'mailto:ops@example.com' } } })
  const context = await openChromium(t)
  await context.grantPermissions(['notifications'])
  if (script) await context.addInitScript(script)
  const page = await context.newPage()
  await page.goto(stage.url)
  await signInAs(page, ana)
  await seesHeading(page, says('waiting.title'))
  return { stage, page }
}

/** Headless Chromium has no push service: the message is dispatched in the service worker. */
async function deliver(page: Page, data?: string): Promise<void> {
  await page.evaluate('navigator.serviceWorker.ready')
  const context = page.context()
  const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent('serviceworker'))
  await worker.evaluate(`new Promise((resolve) => {
    const event = new PushEvent('push', ${data === undefined ? '{}' : JSON.stringify({ data })})
    event.waitUntil = resolve
    self.dispatchEvent(event)
  })`)
}

const shown = (page: Page): Promise<string[]> =>
  page.evaluate(`navigator.serviceWorker.ready
    .then((registration) => registration.getNotifications())
    .then((all) => all.map(({ title }) => title).sort())`)

test('a notification goes when its request is decided elsewhere; that of another request stays', async (t) => {
  const { stage, page } = await atHome(t)
  for (const message of ['Coffee', 'Parking']) {
    await stage.ring('kiosk', { binding_message: message })
    const link = `${stage.url}/approve/${await stage.newestRequest()}`
    await deliver(page, JSON.stringify({ title: message, body: 'x', link, tag: message }))
  }
  await until(async () => (await shown(page)).length === 2)
  await stage.decide(await stage.newestRequest(), 'denied')
  await until(async () => (await shown(page)).length === 1)
  assert.deepEqual(await shown(page), ['Coffee'])
})

for (const [what, data] of [
  ['without content', undefined],
  ['with other content', 'not JSON'],
  ['that is null', 'null'],
  ['with an empty text', ''],
] as const) {
  test(`a push message ${what} is shown, and leads to the list`, async (t) => {
    const { page } = await atHome(t)
    await deliver(page, data)
    assert.deepEqual(await shown(page), ['Doorbell'])
  })
}

test('if the push service fails, the page says so, and does not say that notifications are blocked', async (t) => {
  const { page } = await atHome(t, `PushManager.prototype.subscribe = async () => { throw new Error('no service') }`)
  await page.getByRole('button', { name: says('push.offer') }).click()
  await page.getByText(says('push.failed')).waitFor()
  assert.equal(await page.getByText(says('push.denied')).isVisible(), false)
})

test('a subscription for a former key of the server is not shown as switched on', async (t) => {
  const { page } = await atHome(
    t,
    `PushManager.prototype.getSubscription = async () => ({
       endpoint: 'https://push.example/1',
       options: { applicationServerKey: new Uint8Array(65).buffer },
       unsubscribe: async () => true,
     })
     const usual = window.fetch
     window.fetch = async (url, options) => url === '/notifications/claim'
       ? Response.json({ subscribed: true, ended_another: false })
       : usual(url, options)`,
  )
  await page.getByRole('button', { name: says('push.offer') }).waitFor()
  assert.equal(await page.getByText(says('push.on')).isVisible(), false)
})

/**
 * A simulated push service: the endpoint of the browser's subscription is the member `endpoint` of `place`.
 * @param next the endpoint that the next subscription gets
 */
const pushService = (place: string, next: string) => `
  self.subscriptionOf = (endpoint) => {
    const keys = { p256dh: 'B'.repeat(86) + 'A', auth: 'A'.repeat(22) }
    return { endpoint, keys, toJSON: () => ({ endpoint, keys }), unsubscribe: async () => true }
  }
  PushManager.prototype.getSubscription = async () => ${place}.endpoint ? subscriptionOf(${place}.endpoint) : null
  PushManager.prototype.subscribe = async ({ applicationServerKey, userVisibleOnly }) => {
    if (!userVisibleOnly || !/^[\\w-]{87}$/.test(applicationServerKey)) throw new Error('asked wrongly')
    ${place}.endpoint = ${JSON.stringify(next)}
    return subscriptionOf(${place}.endpoint)
  }`

const [oldEndpoint, newEndpoint] = ['https://push.example/old', 'https://push.example/new']

/** Ana has switched on notifications in this browser. */
async function subscribedBrowser(t: TestContext) {
  const { stage, page } = await atHome(t, pushService('sessionStorage', oldEndpoint))
  await page.getByRole('button', { name: says('push.offer') }).click()
  await page.getByText(says('push.on')).waitFor()
  const endpoints = async () => {
    const rows = await rowsOf(stage, 'select endpoint_hash from push_subscriptions')
    return rows.map(({ endpoint_hash }) => endpoint_hash)
  }
  assert.deepEqual(await endpoints(), [fingerprint(oldEndpoint)])
  await page.evaluate('navigator.serviceWorker.ready')
  const worker = page.context().serviceWorkers()[0] ?? (await page.context().waitForEvent('serviceworker'))
  return { stage, page, worker, endpoints }
}

/** Dispatches the event in the service worker, and waits until its work is done. */
const changed = (newSubscription: string) => `new Promise((resolve, reject) => {
  const event = new ExtendableEvent('pushsubscriptionchange')
  Object.defineProperty(event, 'newSubscription', { value: ${newSubscription} })
  event.waitUntil = (work) => work.then(resolve, reject)
  self.dispatchEvent(event)
})`

for (const [browser, present, newSubscription] of [
  ['Firefox, with the new subscription', newEndpoint, `subscriptionOf('${newEndpoint}')`],
  ['Firefox before 137, without it', newEndpoint, 'undefined'],
  ['Chrome, after it has removed the old one', '', 'null'],
] as const) {
  test(`a subscription that the browser has replaced reaches the server: ${browser}`, async (t) => {
    const { page, worker, endpoints } = await subscribedBrowser(t)
    await worker.evaluate(`${pushService('self', newEndpoint)}\nself.endpoint = '${present}'`)
    await worker.evaluate(changed(newSubscription))
    assert.deepEqual(await endpoints(), [fingerprint(newEndpoint)])
    await page.evaluate(`sessionStorage.endpoint = '${newEndpoint}'`)
    await page.reload()
    await page.getByText(says('push.on')).waitFor()
  })
}

test('if the server was not told, because nobody was signed in, the page tells it after the next sign-in', async (t) => {
  const { stage, page, worker, endpoints } = await subscribedBrowser(t)
  await page.context().clearCookies({ name: 'doorbell_app' })
  await worker.evaluate(pushService('self', newEndpoint))
  await worker.evaluate(changed(`subscriptionOf('${newEndpoint}')`))
  assert.deepEqual(await endpoints(), [fingerprint(oldEndpoint)])
  await page.evaluate(`sessionStorage.endpoint = '${newEndpoint}'`)
  await page.goto(stage.url)
  await page.getByText(says('push.on')).waitFor()
  assert.deepEqual(await endpoints(), [fingerprint(newEndpoint)])
})
