/** A real browser in a user's hand, and what the user does in it. */
import assert from 'node:assert/strict'
import { after, type TestContext } from 'node:test'
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { systemClock } from '../../src/platform/clock.ts'
import { loadTexts } from '../../src/platform/i18n/texts.ts'
import { findChromium } from './chromium-program.ts'
import type { ReceivedMail } from './mail-server.ts'
import { openStage, type Stage, type StageOptions } from './stage.ts'
import { closeAfter } from './teardown.ts'

/** What the pages say to somebody who reads English. */
export const says = loadTexts().in('en')

/** Milliseconds after which what has not appeared will not. */
const patience = 10_000

let browser: Promise<Browser> | undefined

after(async () => (await browser)?.close())

/** One browser for each test file. */
function launch(): Promise<Browser> {
  browser ??= chromium.launch({
    executablePath: findChromium() ?? 'chromium',
    headless: true,
    args: [
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
    ],
  })
  return browser
}

/** A browser of somebody's own: no cookies, nothing remembered. It fails the test if a page's script fails or is refused. */
export async function openChromium(t: TestContext, options: BrowserContextOptions = {}): Promise<BrowserContext> {
  const running = await launch()
  const context = await running.newContext({ locale: 'en', viewport: { width: 390, height: 844 }, ...options })
  context.setDefaultTimeout(patience)
  const complaints: string[] = []
  context.on('weberror', (error) => complaints.push(String(error.error())))
  context.on('console', (message) => {
    if (/content security policy|refused to/i.test(message.text())) complaints.push(message.text())
  })
  closeAfter(t, async () => {
    await context.close()
    assert.deepEqual(complaints, [], 'what the browser complained about')
  })
  return context
}

/** A window of a browser of its own. */
export async function openWindow(t: TestContext, options: BrowserContextOptions = {}): Promise<Page> {
  return (await openChromium(t, options)).newPage()
}

/** In real time: what a page counts down, the browser's clock counts. */
export function openStageInRealTime(t: TestContext, options: StageOptions = {}): Promise<Stage> {
  return openStage(t, { ...options, parts: { clock: systemClock, ...options.parts } })
}

/** Fills in the sign-in page that is shown. */
export async function signInAs(page: Page, { username, password }: { username: string; password: string }) {
  await page.locator('input[name=name]').fill(username)
  await page.locator('input[name=password]').fill(password)
  await Promise.all([
    page.waitForURL((url) => !url.pathname.startsWith('/sign-in/')),
    page.locator('input[name=password]').press('Enter'),
  ])
}

/** The link of a mail. */
export function linkIn(mail: ReceivedMail | undefined): string {
  const link = /https?:\/\/\S+\/approve\/\S+/.exec(mail?.text ?? '')?.[0]
  assert.ok(link, 'the mail has a link')
  return link
}

/** Presses a button, by what it says, and sees the page that follows. */
export async function press(page: Page, name: string): Promise<void> {
  await Promise.all([page.waitForEvent('domcontentloaded'), page.getByRole('button', { name, exact: true }).click()])
}

/** Waits until the page is headed so. */
export async function seesHeading(page: Page, text: string): Promise<void> {
  await page.getByRole('heading', { level: 1, name: text, exact: true }).waitFor()
}

/** All that can be read on the page. */
export async function readPage(page: Page): Promise<string> {
  return String(await page.evaluate('document.body.innerText'))
}
