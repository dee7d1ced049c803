/** Several tabs of one browser: they share one event stream, so that the list stays up to date and links still work. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { BrowserContext, Page, Request } from 'playwright-core'
import { openChromium, says, seesHeading, signInAs } from '../support/chromium.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

/** More tabs than a browser opens connections to one server with HTTP/1.1. */
const many = 8

async function openTabs(t: TestContext, count = many, canShare = true) {
  const stage = await openStage(t)
  const context = await openChromium(t)
  if (!canShare) await context.addInitScript('delete Navigator.prototype.locks')
  const streams = countStreams(context)
  const first = await context.newPage()
  await first.goto(stage.url)
  await signInAs(first, ana)
  const tabs = [first]
  while (tabs.length < count) tabs.push(await openTab(context, stage))
  return { stage, streams, tabs }
}

async function openTab(context: BrowserContext, stage: Stage): Promise<Page> {
  const page = await context.newPage()
  await page.goto(stage.url)
  await seesHeading(page, says('waiting.title'))
  return page
}

/** Returns a function that returns the number of open event streams of all tabs. */
function countStreams(context: BrowserContext): () => number {
  const open = new Set<Request>()
  context.on('request', (request) => request.url().endsWith('/events') && open.add(request))
  context.on('requestfinished', (request) => open.delete(request))
  context.on('requestfailed', (request) => open.delete(request))
  // A closed tab sends no event for its requests.
  return () => [...open].filter((request) => !request.frame().page().isClosed()).length
}

const shows = (page: Page, client: string) => page.getByRole('heading', { level: 2, name: client }).waitFor()

/** Tells a page that it is hidden, or seen again, as a browser does for a tab in the background. */
async function hide(page: Page, hidden: boolean): Promise<void> {
  await page.evaluate(`
    Object.defineProperty(document, 'hidden', { configurable: true, value: ${hidden} })
    document.dispatchEvent(new Event('visibilitychange'))`)
}

test('eight tabs have one stream, each list stays up to date, and links work', async (t) => {
  const { stage, streams, tabs } = await openTabs(t)
  await until(() => streams() === 1)
  await stage.ring('kiosk')
  await Promise.all(tabs.map((page) => shows(page, 'Kiosk')))
  await tabs
    .at(-1)!
    .getByRole('link', { name: says('waiting.look') })
    .click()
  await seesHeading(tabs.at(-1)!, says('approve.title', { client: 'Kiosk' }))
})

test('when the tab with the stream is closed, or leaves the list, another one takes over', async (t) => {
  const { stage, streams, tabs } = await openTabs(t)
  await until(() => streams() === 1)
  for (const page of tabs.slice(0, -1)) await page.close()
  await until(() => streams() === 1)
  await stage.ring('northbank', { binding_message: 'Loan 7' })
  await shows(tabs.at(-1)!, 'Northbank')
})

test('hidden tabs have no stream, and are up to date when they are seen again', async (t) => {
  const { stage, streams, tabs } = await openTabs(t)
  for (const page of tabs) await hide(page, true)
  await until(() => streams() === 0)
  await stage.ring('kiosk')
  await hide(tabs[3]!, false)
  await shows(tabs[3]!, 'Kiosk')
  await until(() => streams() === 1)
  assert.equal(await tabs[4]!.getByRole('heading', { level: 2, name: 'Kiosk' }).count(), 0, 'it is not seen')
})

test('where tabs cannot share, as over http from another machine, each has a stream', async (t) => {
  const { stage, streams, tabs } = await openTabs(t, 2, false)
  await until(() => streams() === 2)
  await stage.ring('kiosk')
  await Promise.all(tabs.map((page) => shows(page, 'Kiosk')))
})

const notLive = (page: Page) => page.getByText(says('waiting.not_live'))

test('a refused stream is opened again: until then all tabs say that they are not up to date', async (t) => {
  const stage = await openStage(t)
  const context = await openChromium(t)
  let refused = true
  await context.route('**/events', (route) => (refused ? route.fulfill({ status: 503 }) : route.continue()))
  const first = await context.newPage()
  await first.goto(stage.url)
  await signInAs(first, ana)
  const tabs = [first, await openTab(context, stage)]
  for (const page of tabs) await notLive(page).waitFor()
  await stage.ring('kiosk')
  refused = false
  for (const page of tabs) await shows(page, 'Kiosk')
  for (const page of tabs) await notLive(page).waitFor({ state: 'hidden' })
})

for (const status of [503, 429, 500]) {
  test(`a list that is answered with ${status} stays on the screen, and is fetched again`, async (t) => {
    const { stage, tabs } = await openTabs(t, 2)
    let refused = 0
    let isOver = false
    await tabs[0]!.context().route(`${stage.url}/`, (route) => {
      if (isOver) return route.continue()
      refused += 1
      return route.fulfill({ status, contentType: 'text/html', body: '<h1>Not now</h1>' })
    })
    await stage.ring('kiosk')
    for (const page of tabs) await notLive(page).waitFor()
    assert.ok(refused >= 2)
    isOver = true
    for (const page of tabs) await shows(page, 'Kiosk')
    for (const page of tabs) await notLive(page).waitFor({ state: 'hidden' })
  })
}

test('a list that cannot be fetched stays on the screen, and is fetched again', async (t) => {
  const { stage, tabs } = await openTabs(t, 1)
  const page = tabs[0]!
  let isLost = true
  await page.route(`${stage.url}/`, (route) => (isLost ? route.abort('connectionreset') : route.continue()))
  await stage.ring('kiosk')
  await notLive(page).waitFor()
  isLost = false
  await shows(page, 'Kiosk')
  await notLive(page).waitFor({ state: 'hidden' })
})

test('an older answer that arrives late does not replace a newer one', async (t) => {
  const { stage, tabs } = await openTabs(t, 1)
  const page = tabs[0]!
  const late = Promise.withResolvers<void>()
  let fetched = 0
  await page.route(`${stage.url}/`, async (route) => {
    const response = await route.fetch()
    fetched += 1
    if (fetched === 1) await late.promise
    await route.fulfill({ response })
  })
  await stage.ring('kiosk')
  await until(() => fetched === 1)
  await stage.ring('northbank')
  late.resolve()
  await shows(page, 'Northbank')
  await shows(page, 'Kiosk')
  assert.equal(fetched, 2)
})

test('opening a window makes the others fetch nothing', async (t) => {
  const { stage, streams, tabs } = await openTabs(t, 3)
  await until(() => streams() === 1)
  let fetched = 0
  for (const page of tabs) page.on('request', () => (fetched += 1))
  await openTab(tabs[0]!.context(), stage)
  await stage.ring('kiosk')
  await Promise.all(tabs.map((page) => shows(page, 'Kiosk')))
  assert.equal(fetched, 3, 'each has fetched the new request')
})

test('when another user signs in, all windows show the list of this user', async (t) => {
  const { stage, tabs } = await openTabs(t, 2)
  await tabs[1]!.goto(`${stage.url}/session/start?as=another`)
  await signInAs(tabs[1]!, ben)
  await tabs[0]!.getByText(says('app.signed_in_as', { name: 'Ben' })).waitFor()
})

test('the page of a request says when the request was decided elsewhere', async (t) => {
  const { stage, tabs } = await openTabs(t, 1)
  await stage.ring('kiosk')
  await stage.ring('northbank')
  const id = await stage.newestRequest()
  const page = tabs[0]!
  await page.goto(`${stage.url}/approve/${id}`)
  await seesHeading(page, says('approve.title', { client: 'Northbank' }))
  const [, other] = await stage.waiting()
  await stage.decide(other!.request_id, 'denied')
  await stage.decide(id, 'denied')
  await page.getByText(says('outcome.already_denied')).waitFor()
})

test('the page of a request leads to the sign-in when the session has ended', async (t) => {
  const { stage, tabs } = await openTabs(t, 1)
  await stage.ring('kiosk')
  const page = tabs[0]!
  await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
  await seesHeading(page, says('approve.title', { client: 'Kiosk' }))
  const elsewhere = openVisitor(stage.url)
  const form_token = formTokenOn(await elsewhere.signIn(ana, '/sessions'))
  assert.equal((await elsewhere.post('/sessions/end', { form_token, everywhere: 'true' })).status, 303)
  await page.waitForURL('**/sign-in/**')
})
