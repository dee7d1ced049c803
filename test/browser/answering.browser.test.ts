/** From an authentication request to tokens, and all other outcomes of a request, in a real browser. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import type { Page } from 'playwright-core'
import {
  linkIn,
  openChromium,
  openStageInRealTime,
  openWindow,
  press,
  readPage,
  says,
  seesHeading,
  signInAs,
} from '../support/chromium.ts'
import { type Acknowledgement, collect, playedBy, refusalOf } from '../support/foreign-client.ts'
import { openMailServer } from '../support/mail-server.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { ana, ben, newNotificationToken, openStage, type RingingClient, type Stage } from '../support/stage.ts'

const kiosk = { client: 'Kiosk' }
const message = 'Coffee 4.20'

describe('Ana gets a mail about a request, follows its link, signs in and approves', () => {
  test('Kiosk polls and gets tokens', async (t) => {
    const { stage, mails } = await openHouse(t)
    const client = await playedBy(stage, 'kiosk')
    const response = await sendRequest(client, 'kiosk')
    await approveFromMail(t, stage, mails, 'Kiosk')
    const claims = (await collect(client, response)).claims()!
    assert.deepEqual([claims.sub, claims.amr], [ana.id, ['pwd']])
    assert.ok(Math.abs(Number(claims.auth_time) - Date.now() / 1000) < 60, 'auth_time is that of the sign-in')
  })

  test('Northbank gets a ping and redeems the tokens', async (t) => {
    const { stage, mails, northbank } = await openHouse(t)
    const client = await playedBy(stage, 'northbank')
    const response = await sendRequest(client, 'northbank')
    await approveFromMail(t, stage, mails, 'Northbank')
    const [ping] = await northbank.hears(1)
    assert.deepEqual(ping!.body, { auth_req_id: response.auth_req_id })
    assert.equal((await collect(client, response)).claims()!.sub, ana.id)
  })

  test('Till gets the tokens by push', async (t) => {
    const { stage, mails, till } = await openHouse(t)
    const client = await playedBy(stage, 'till')
    const response = await sendRequest(client, 'till')
    await approveFromMail(t, stage, mails, 'Till')
    const [push] = await till.hears(1)
    assert.equal(push!.body.auth_req_id, response.auth_req_id)
    const userinfo = await openid.fetchUserInfo(client, String(push!.body.access_token), ana.id)
    assert.equal(userinfo.sub, ana.id)
  })
})

describe('Ana denies', () => {
  test('Deny is as easy to reach as Approve, and the client gets the denial', async (t) => {
    const { client, response, page } = await looking(t)
    await press(page, says('approve.deny'))
    await seesHeading(page, says('outcome.denied_title'))
    assert.equal((await refusalOf(collect(client, response))).error, 'access_denied')
  })

  test('"this was not me" denies, and her history records the report', async (t) => {
    const { client, response, page } = await looking(t)
    await press(page, says('approve.not_me'))
    await seesHeading(page, says('outcome.reported_title'))
    assert.equal((await refusalOf(collect(client, response))).error, 'access_denied')
    await page
      .getByRole('link', { name: says('app.activity') })
      .first()
      .click()
    await seesHeading(page, says('activity.title'))
    assert.ok((await readPage(page)).includes(says('activity.reported')))
  })
})

describe('expiry, and other users', () => {
  test('a request expires while the page is open: the page counts down, and then shows the expiry', async (t) => {
    const stage = await openStageInRealTime(t)
    const page = await openWindow(t)
    await page.goto(stage.url)
    await signInAs(page, ana)
    const client = await playedBy(stage, 'kiosk')
    const response = await sendRequest(client, 'kiosk', { requested_expiry: '4' })
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    await seesHeading(page, says('approve.title', kiosk))
    const left = page.locator('[data-countdown]')
    await left.filter({ hasNotText: String(await left.textContent()) }).waitFor()
    await seesHeading(page, says('outcome.expired_title'))
    assert.equal(await page.getByRole('button', { name: says('approve.approve') }).count(), 0)
    assert.equal((await refusalOf(collect(client, response))).error, 'expired_token')
  })

  test('the link of a decided request shows that it was decided', async (t) => {
    const { page } = await looking(t)
    const link = page.url()
    await press(page, says('approve.deny'))
    await page.goto(link)
    await seesHeading(page, says('outcome.already_title'))
    assert.ok((await readPage(page)).includes(says('outcome.already_denied')))
  })

  test('two tabs decide at the same time: one succeeds, the other shows that it is decided', async (t) => {
    const stage = await openStage(t)
    const browser = await openChromium(t)
    const client = await playedBy(stage, 'kiosk')
    const response = await sendRequest(client, 'kiosk')
    const link = `${stage.url}/approve/${await stage.newestRequest()}`
    const [one, other] = [await browser.newPage(), await browser.newPage()]
    await one.goto(link)
    await signInAs(one, ana)
    await other.goto(link)
    const already = says('outcome.already_title')
    // The page of the slower tab may show the outcome by itself, before its button is pressed.
    const decide = (page: Page, button: string) => Promise.any([press(page, button), seesHeading(page, already)])
    await Promise.all([decide(one, says('approve.approve')), decide(other, says('approve.deny'))])
    const [approving, denying] = await Promise.all([one, other].map((page) => page.locator('h1').textContent()))
    if (denying === already) {
      assert.equal(approving, says('outcome.approved_title'))
      assert.equal((await collect(client, response)).claims()!.sub, ana.id)
    } else {
      assert.deepEqual([approving, denying], [already, says('outcome.denied_title')])
      assert.equal((await refusalOf(collect(client, response))).error, 'access_denied')
    }
  })

  test('a second tab with the same request shows by itself that it is decided', async (t) => {
    const { page } = await looking(t)
    const other = await page.context().newPage()
    await other.goto(page.url())
    await seesHeading(other, says('approve.title', { client: 'Kiosk' }))
    await press(page, says('approve.approve'))
    await seesHeading(page, says('outcome.approved_title'))
    await seesHeading(other, says('outcome.already_title'))
    assert.ok((await readPage(other)).includes(says('outcome.already_approved')))
  })

  test("Ben opens Ana's link: he sees only that it is not his; she signs in and decides", async (t) => {
    const stage = await openStage(t)
    const client = await playedBy(stage, 'kiosk')
    const response = await sendRequest(client, 'kiosk')
    const page = await openWindow(t)
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    await signInAs(page, ben)
    await seesHeading(page, says('outcome.not_yours_title'))
    const source = await page.content()
    assert.ok(source.includes(says('outcome.not_yours', { name: ben.name })), source)
    for (const hidden of ['Kiosk', message, ana.name, ana.email]) assert.ok(!source.includes(hidden), hidden)

    await page.getByRole('link', { name: says('outcome.switch') }).click()
    await signInAs(page, ana)
    await seesHeading(page, says('approve.title', kiosk))
    await press(page, says('approve.approve'))
    await seesHeading(page, says('outcome.approved_title'))
    assert.equal((await collect(client, response)).claims()!.sub, ana.id)
  })

  test('after a sign-out the next user must sign in, and sees nothing of the previous user', async (t) => {
    const { stage, page } = await looking(t)
    const link = page.url()
    await press(page, says('app.sign_out'))
    await seesHeading(page, says('sign_in.title'))
    await page.goto(link)
    assert.ok(!(await page.content()).includes(message))
    await signInAs(page, ben)
    await page.goto(stage.url)
    assert.ok((await readPage(page)).includes(says('app.signed_in_as', { name: ben.name })))
  })
})

/** A Doorbell that sends mail, with the notification endpoints of the clients. */
async function openHouse(t: TestContext) {
  const [server, northbank, till] = await Promise.all([
    openMailServer(t),
    openNotificationEndpoint(t),
    openNotificationEndpoint(t),
  ])
  const email = { smtp: server.url, from: 'Doorbell <no-reply@id.example>' }
  const stage = await openStage(t, { config: { email }, northbank: northbank.url, till: till.url })
  return { stage, mails: server.mails, northbank, till }
}

function sendRequest(
  client: openid.Configuration,
  as: RingingClient,
  more: Record<string, string> = {},
): Promise<Acknowledgement> {
  return openid.initiateBackchannelAuthentication(client, {
    scope: 'openid',
    login_hint: ana.email,
    binding_message: message,
    ...(as !== 'kiosk' && { client_notification_token: newNotificationToken() }),
    ...more,
  })
}

async function approveFromMail(
  t: TestContext,
  stage: Stage,
  mails: Awaited<ReturnType<typeof openMailServer>>['mails'],
  client: string,
): Promise<void> {
  await stage.doorbell.idle()
  assert.equal(mails.length, 1)
  assert.deepEqual(mails[0]!.to, [ana.email])
  const page = await openWindow(t)
  await page.goto(linkIn(mails[0]))
  await seesHeading(page, says('sign_in.title'))
  await signInAs(page, ana)
  await seesHeading(page, says('approve.title', { client }))
  assert.equal(await page.locator('#message').textContent(), message)
  await press(page, says('approve.approve'))
  await seesHeading(page, says('outcome.approved_title'))
}

/** Ana, signed in, views a request of Kiosk. */
async function looking(
  t: TestContext,
): Promise<{ stage: Stage; client: openid.Configuration; response: Acknowledgement; page: Page }> {
  const stage = await openStage(t)
  const client = await playedBy(stage, 'kiosk')
  const response = await sendRequest(client, 'kiosk')
  const page = await openWindow(t)
  await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
  await signInAs(page, ana)
  await seesHeading(page, says('approve.title', kiosk))
  return { stage, client, response, page }
}
