/** Starts a real browser, and performs the actions of a user in it. */
import assert from 'node:assert/strict'
import { after, type TestContext } from 'node:test'
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { systemClock } from '../../src/platform/clock.ts'
import { loadTexts } from '../../src/platform/i18n/texts.ts'
import { findChromium } from './chromium-program.ts'
import type { ReceivedMail } from './mail-server.ts'
import { openStage, type Stage, type StageOptions } from './stage.ts'
import { closeAfter } from './teardown.ts'

/** The texts of the pages in English. */
export const says = loadTexts().in('en')

/** A test fails if an expected element does not appear within this many milliseconds. */
const patience = 10_000

let browser: Promise<Browser> | undefined

after(async () => (await browser)?.close())

/** Starts one browser for each test file. */
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

/** Opens a browser context without cookies. The test fails if a script of a page fails or is blocked. */
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

/** Opens a page in a new browser context. */
export async function openWindow(t: TestContext, options: BrowserContextOptions = {}): Promise<Page> {
  return (await openChromium(t, options)).newPage()
}

/**
 * Opens a server with the system clock, because the countdown on a page uses the browser's clock, which is real time.
 */
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

/** Returns the link in a mail. */
export function linkIn(mail: ReceivedMail | undefined): string {
  const link = /https?:\/\/\S+\/approve\/\S+/.exec(mail?.text ?? '')?.[0]
  assert.ok(link, 'the mail has a link')
  return link
}

/** Presses the button with this text, and waits for the next page. */
export async function press(page: Page, name: string): Promise<void> {
  await Promise.all([page.waitForEvent('domcontentloaded'), page.getByRole('button', { name, exact: true }).click()])
}

/** Waits until the page has this heading. */
export async function seesHeading(page: Page, text: string): Promise<void> {
  await page.getByRole('heading', { level: 1, name: text, exact: true }).waitFor()
}

/** Returns all visible text of the page. */
export async function readPage(page: Page): Promise<string> {
  return String(await page.evaluate('document.body.innerText'))
}
