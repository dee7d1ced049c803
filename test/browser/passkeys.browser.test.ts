/** Passkeys in a real browser: a user adds, names and removes them, signs in with them, and approves with them. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import type { Page } from 'playwright-core'
import { openWindow, press, readPage, says, seesHeading, signInAs } from '../support/chromium.ts'
import { collect, playedBy } from '../support/foreign-client.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'

describe('passkeys', () => {
  test('Ana adds one, signs in with it, and the ID token contains its amr', async (t) => {
    const { stage, page } = await atHome(t)
    await plugInAuthenticator(page)
    await addPasskey(page, stage)

    await press(page, says('app.sign_out'))
    await Promise.all([
      page.waitForURL(`${stage.url}/`),
      page.getByRole('button', { name: says('sign_in.passkey') }).click(),
    ])
    await seesHeading(page, says('waiting.title'))

    const { client, response } = await openRequestForPasskey(stage, page)
    // No confirmation: she has just signed in with it.
    await press(page, says('approve.approve'))
    await seesHeading(page, says('outcome.approved_title'))
    assert.equal((await collect(client, response)).claims()!.acr, 'phr')
  })

  test('signed in with a password, she approves with a passkey where one is required', async (t) => {
    const { stage, page } = await atHome(t)
    const authenticator = await plugInAuthenticator(page)
    await addPasskey(page, stage)
    const { client, response } = await openRequestForPasskey(stage, page)
    assert.ok((await readPage(page)).includes(says('approve.need_passkey')))
    assert.equal(await page.getByRole('button', { name: says('approve.approve'), exact: true }).count(), 0)

    await authenticator.recognises(false)
    await page.getByRole('button', { name: says('approve.confirm_passkey') }).click()
    await page.getByRole('alert').filter({ visible: true }).waitFor()
    assert.equal((await stage.waiting())[0]!.status, 'pending')

    await authenticator.recognises(true)
    await Promise.all([
      page.waitForURL(/just=approve/),
      page.getByRole('button', { name: says('approve.confirm_passkey') }).click(),
    ])
    await seesHeading(page, says('outcome.approved_title'))
    const claims = (await collect(client, response)).claims()!
    assert.equal(claims.acr, 'phr')
    assert.ok((claims.amr as string[]).includes('hwk') || (claims.amr as string[]).includes('pop'), String(claims.amr))
  })

  test('asked for a passkey that she does not have, she adds one and is back at the request', async (t) => {
    const { stage, page } = await atHome(t)
    await plugInAuthenticator(page)
    await stage.ring('kiosk', { acr_values: 'phr' })
    const path = `/approve/${await stage.newestRequest()}`
    await page.goto(`${stage.url}${path}`)
    await page.getByRole('link', { name: says('approve.add_passkey') }).click()
    await page.getByRole('link', { name: says('passkeys.back_to_request') }).waitFor()
    await Promise.all([
      page.waitForURL(`${stage.url}${path}`),
      page.getByRole('button', { name: says('passkeys.add') }).click(),
    ])
    await Promise.all([
      page.waitForURL(/just=approve/),
      page.getByRole('button', { name: says('approve.confirm_passkey') }).click(),
    ])
    await seesHeading(page, says('outcome.approved_title'))
    assert.ok((await readPage(page)).includes(says('outcome.approved', { client: 'Kiosk' })))
  })

  test('she removes it, after signing in with it: it can no longer be used to sign in', async (t) => {
    const { stage, page } = await atHome(t)
    await plugInAuthenticator(page)
    await addPasskey(page, stage)
    assert.ok((await readPage(page)).includes(says('passkeys.sign_in_again')))
    assert.equal(await page.getByRole('button', { name: says('passkeys.remove') }).count(), 0)
    await page.getByRole('link', { name: says('sign_in.submit'), exact: true }).click()
    assert.equal(await page.locator('input[type=password]').count(), 0)
    await Promise.all([
      page.waitForURL(`${stage.url}/passkeys`),
      page.getByRole('button', { name: says('sign_in.passkey') }).click(),
    ])
    await Promise.all([
      page.waitForURL(/done=removed/),
      page.getByRole('button', { name: says('passkeys.remove') }).click(),
    ])
    assert.equal(await page.getByRole('status').textContent(), says('passkeys.removed'))
    await press(page, says('app.sign_out'))
    await Promise.all([
      page.waitForResponse((response) => response.request().method() === 'POST' && response.status() === 401),
      page.getByRole('button', { name: says('sign_in.passkey') }).click(),
    ])
    await page.getByText(says('sign_in.passkey_failed')).first().waitFor()
    await seesHeading(page, says('sign_in.title'))
  })
})

describe('names of passkeys', () => {
  test('Ana types a name, renames the passkey, and gets another proposal for the next one', async (t) => {
    const { stage, page } = await atHome(t)
    await plugInAuthenticator(page)
    await page.goto(`${stage.url}/passkeys`)
    const proposed = await page.getByLabel(says('passkeys.new_name')).inputValue()
    assert.match(proposed, /^Chrome · \w+$/)
    await addPasskey(page, stage)
    await page.getByRole('heading', { level: 2, name: proposed, exact: true }).waitFor()

    await press(page, says('app.sign_out'))
    await page.getByRole('button', { name: says('sign_in.passkey') }).click()
    await seesHeading(page, says('waiting.title'))
    await page.goto(`${stage.url}/passkeys`)
    await page.getByRole('heading', { level: 2, name: proposed, exact: true }).waitFor()
    assert.equal(await page.getByLabel(says('passkeys.new_name')).inputValue(), `${proposed} 2`)

    await page.getByText(says('passkeys.rename')).click()
    const name = page.getByLabel(says('passkeys.name'), { exact: true })
    await name.fill('Work\u200b phone')
    await page.getByRole('button', { name: says('passkeys.save') }).click()
    assert.equal(
      await name.evaluate((field) => (field as unknown as { validity: { valid: boolean } }).validity.valid),
      false,
    )
    await name.fill('Work phone')
    await press(page, says('passkeys.save'))
    assert.equal(await page.getByRole('status').textContent(), says('passkeys.renamed'))
    await page.getByRole('heading', { level: 2, name: 'Work phone', exact: true }).waitFor()
    assert.equal(await page.getByLabel(says('passkeys.new_name')).inputValue(), proposed)
  })
})

async function atHome(t: TestContext) {
  const stage = await openStage(t)
  const page = await openWindow(t)
  await page.goto(stage.url)
  await signInAs(page, ana)
  await seesHeading(page, says('waiting.title'))
  return { stage, page }
}

/** An authenticator that is always present: it reports that the user is verified, unless told otherwise. */
async function plugInAuthenticator(page: Page) {
  const devtools = await page.context().newCDPSession(page)
  await devtools.send('WebAuthn.enable')
  const { authenticatorId } = await devtools.send('WebAuthn.addVirtualAuthenticator', {
    options: {
      protocol: 'ctap2',
      transport: 'internal',
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  })
  return {
    recognises: (isUserVerified: boolean) =>
      devtools.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified }),
  }
}

async function addPasskey(page: Page, stage: Stage): Promise<void> {
  await page.goto(`${stage.url}/passkeys`)
  await Promise.all([page.waitForURL(/done=added/), page.getByRole('button', { name: says('passkeys.add') }).click()])
  assert.equal(await page.getByRole('status').textContent(), says('passkeys.added'))
}

/** A client requests an approval with a passkey, and the user opens the page of the request. */
async function openRequestForPasskey(stage: Stage, page: Page) {
  const client = await playedBy(stage, 'kiosk')
  const asked = { scope: 'openid', login_hint: 'ana', acr_values: 'phr' }
  const response = await openid.initiateBackchannelAuthentication(client, asked)
  await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
  return { client, response }
}
