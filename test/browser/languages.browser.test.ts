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
