/** Several tabs of one browser: they share one event stream, so that the list stays up to date and links still work. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { BrowserContext, Page, Request } from 'playwright-core'
import { openChromium, says, seesHeading, signInAs } from '../support/chromium.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'

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
