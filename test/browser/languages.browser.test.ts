/** Every page in each language, by the user's locale or the browser's settings. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { type Language, languages, loadTexts, textsFolder } from '../../src/platform/i18n/texts.ts'
import { openWindow, readPage, signInAs } from '../support/chromium.ts'
import { ana, ben, openStage } from '../support/stage.ts'

const texts = loadTexts()
const sections = Object.keys(JSON.parse(readFileSync(`${textsFolder}/en.json`, 'utf8')) as object).join('|')
const keyName = new RegExp(`\\b(${sections})\\.[a-z_]+\\b(?!\\.[a-z])`)

for (const language of languages) {
  test(`${language}: sign-in, request, outcome, open requests, activity, passkeys`, async (t) => {
    const say = texts.in(language)
    const { username, password, email, id } = ana
    const stage = await openStage(t, {
      config: { users: [{ id, username, password, email, name: 'Ana', locale: language }] },
    })
    await stage.ring('kiosk', { scope: 'openid profile offline_access' })
    const page = await openWindow(t, { locale: language })
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    await reads(page, language, [say('sign_in.title'), say('sign_in.password')])
    await signInAs(page, ana)
    await reads(page, language, [
      say('approve.title', { client: 'Kiosk' }),
      say('approve.approve'),
      say('approve.deny'),
      say('approve.not_me'),
      say('scope.offline_access'),
    ])
    await page.locator('button.deny').click()
    await page.waitForURL(/just=deny/)
    await reads(page, language, [say('outcome.denied_title'), say('outcome.denied', { client: 'Kiosk' })])
    await page.goto(`${stage.url}/`)
    await reads(page, language, [say('waiting.none'), say('app.signed_in_as', { name: 'Ana' })])
    await page.goto(`${stage.url}/activity`)
    await reads(page, language, [say('activity.denied'), say('activity.block', { client: 'Kiosk' })])
    await page.goto(`${stage.url}/passkeys`)
    await reads(page, language, [say('passkeys.about')])
    await page.goto(`${stage.url}/sessions`)
    await reads(page, language, [say('sessions.title'), say('sessions.current'), say('sessions.end_all')])
    await page.goto(`${stage.url}/approve/no-such-request`)
    await reads(page, language, [say('outcome.not_yours_title'), say('outcome.switch')])
  })
}

for (const language of languages) {
  test(`${language}: the navigation has one line at 360 pixels, also with the user code`, async (t) => {
    const say = texts.in(language)
    const user = { ...ana, user_code: 'garden gate', locale: language }
    const stage = await openStage(t, { config: { users: [user] } })
    const page = await openWindow(t, { locale: language, viewport: { width: 360, height: 640 } })
    await page.goto(stage.url)
    await signInAs(page, ana)
    for (const path of ['/', '/activity', '/passkeys', '/user-code']) {
      await page.goto(stage.url + path)
      const links = page.getByRole('navigation').getByRole('link')
      const names = ['home', 'activity', 'passkeys', 'user_code'].map((key) => say(`app.${key}`))
      assert.deepEqual(await links.allTextContents(), names, path)
      const boxes = await Promise.all((await links.all()).map((link) => link.boundingBox()))
      const [first, last] = [boxes.at(0)!, boxes.at(-1)!]
      assert.deepEqual(
        boxes.map((box) => [box!.y, box!.height]),
        boxes.map(() => [first.y, first.height]),
        path,
      )
      assert.ok(first.height < 50, `${path}: a link has two lines: ${first.height} pixels`)
      // Fonts of phones may be wider than the font of this machine.
      const width = boxes.reduce((sum, box) => sum + box!.width, 0)
      assert.ok(last.x + last.width <= 360 && width <= 300, `${path}: the links are ${width} pixels wide`)
    }
  })
}

test('"My code" is in the navigation of those who have one; the page of passkeys leads the others to it', async (t) => {
  const say = texts.in('en')
  const stage = await openStage(t)
  const page = await openWindow(t, { locale: 'en' })
  await page.goto(stage.url)
  await signInAs(page, ana)
  const link = page.getByRole('navigation').getByRole('link', { name: say('app.user_code') })
  assert.equal(await link.count(), 0)
  await page.goto(`${stage.url}/passkeys`)
  await page.getByRole('link', { name: say('user_code.set_one') }).click()
  await page.getByRole('heading', { level: 1, name: say('user_code.title') }).waitFor()
  assert.equal(await link.getAttribute('aria-current'), 'page')
  for (const field of ['new', 'repeated']) {
    await page.getByLabel(say(`user_code.${field}`), { exact: true }).fill('garden gate')
  }
  const other = await page.context().newPage()
  await other.goto(stage.url)
  await page.getByRole('button', { name: say('user_code.choose') }).click()
  await page.getByText(say('user_code.set'), { exact: true }).waitFor()
  await page.goto(`${stage.url}/passkeys`)
  await link.waitFor()
  assert.equal(await page.getByRole('link', { name: say('user_code.set_one') }).count(), 0)
  // The form token stays valid, so forms that were shown before can still be sent.
  await other.getByRole('button', { name: say('app.sign_out') }).click()
  await other.getByRole('heading', { level: 1, name: say('sign_in.title') }).waitFor()
})

test("the user's locale overrides the languages of the browser; without one the browser's apply", async (t) => {
  const stage = await openStage(t, { config: { users: [{ ...ana, locale: 'de-AT' }, ben] } })
  const page = await openWindow(t, { locale: 'fr-CA' })
  await page.goto(stage.url)
  await reads(page, 'fr', [texts.in('fr')('sign_in.title')])
  await signInAs(page, ana)
  await reads(page, 'de', [texts.in('de')('waiting.title')])

  const other = await openWindow(t, { locale: 'pt' })
  await other.goto(stage.url)
  await signInAs(other, ben)
  await reads(other, 'pt-BR', [texts.in('pt-BR')('waiting.title')])
})

async function reads(page: Page, language: Language, expected: string[]): Promise<void> {
  assert.equal(await page.locator('html').getAttribute('lang'), language)
  const text = `${await page.title()}\n${await readPage(page)}`
  for (const part of expected) assert.ok(text.includes(part), `"${part}" is not on the page:\n${text}`)
  assert.doesNotMatch(text, keyName)
  assert.doesNotMatch(text, /\{\{|\}\}|undefined|\[object/)
}
