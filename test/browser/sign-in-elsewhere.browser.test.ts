/** Users sign in at another provider, in a real browser. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { openStageInRealTime, openWindow, press, says, seesHeading, signInAs } from '../support/chromium.ts'
import { freePort } from '../support/ports.ts'
import { ana, type Stage } from '../support/stage.ts'

const client = { client_id: 'house-app', client_name: 'House', client_secret: 'the secret of the house app' }

test('after “Sign out” a page says so, and the next sign-in asks for the password at the other provider', async (t) => {
  const { bank, house } = await openBoth(t)
  const page = await openWindow(t)
  await page.goto(house.url)
  await page.locator('input[name=name]').fill(ana.username)
  await page.locator('input[name=password]').fill(ana.password)
  await press(page, says('sign_in.submit'))
  await press(page, says('consent.allow'))
  await page.waitForURL(`${house.url}/`)

  await page.getByRole('button', { name: says('app.sign_out') }).click()
  await seesHeading(page, says('sign_out.done_title'))
  assert.equal(new URL(page.url()).origin, house.url)

  await page.getByRole('link', { name: says('sign_in.submit') }).click()
  await page.waitForURL(`${bank.url}/sign-in/**`)
  assert.equal(await page.locator('input[name=password]').count(), 1)
  await signInAs(page, ana)
  await page.waitForURL(`${house.url}/`)
  await page.goto(`${house.url}/session/ended`)
  assert.equal(page.url(), `${house.url}/`, 'who is signed in is not told otherwise')
})

async function openBoth(t: TestContext): Promise<{ bank: Stage; house: Stage }> {
  const port = await freePort()
  const clients = [{ ...client, redirect_uris: [`http://localhost:${port}/session/callback`] }]
  const bank = await openStageInRealTime(t, {
    config: { clients, users: [{ ...ana, claims: { email_verified: true } }] as never },
  })
  const { client_name, ...known } = client
  return { bank, house: await openStageInRealTime(t, { port, config: { login: { issuer: bank.url, ...known } } }) }
}
