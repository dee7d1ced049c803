/** Accessibility of every page: contrast, keyboard, small screens, and no scripts. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { describe, type TestContext, test } from 'node:test'
import type { Locator, Page } from 'playwright-core'
import type { ConfigInput } from '../../src/config/config.ts'
import { openChromium, openWindow, press, readPage, says, seesHeading, signInAs } from '../support/chromium.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
/** Not committed; for review by eye. */
const screenshots = 'test/screenshots'
mkdirSync(screenshots, { recursive: true })

/** How to reach each page, signed in as Ana, one after the other. */
const pages: Record<string, (page: Page, stage: Stage) => Promise<unknown>> = {
  'waiting, nothing': (page, stage) => page.goto(stage.url),
  'activity, nothing': (page, stage) => page.goto(`${stage.url}/activity`),
  waiting: async (page, stage) => {
    await stage.ring('kiosk')
    await stage.ring('till', { binding_message: 'Two umbrellas, pick up at the counter' })
    await page.goto(stage.url)
  },
  mailbox: async (page, stage) => {
    await stage.doorbell.idle()
    await page.goto(`${stage.url}/dev/mailbox`)
  },
  activity: async (page, stage) => {
    const { body } = await stage.ring('kiosk')
    await stage.decide(await stage.newestRequest(), 'approved')
    await stage.poll('kiosk', body.auth_req_id)
    await stage.ring('northbank', { binding_message: 'Transfer 12,000.00 to an account you have never used before' })
    await stage.decide(await stage.newestRequest(), 'denied', { report: 'true' })
    await stage.ring('till', { binding_message: '' })
    await stage.decide(await stage.newestRequest(), 'denied')
    await page.goto(`${stage.url}/activity`)
    await press(page, says('activity.block', { client: 'Till' }))
  },
  approve: (page, stage) => openRequest(page, stage, { scope: 'openid profile offline_access' }),
  'approve, long message': (page, stage) => openRequest(page, stage, { binding_message: 'W'.repeat(128) }),
  'approve, number': (page, stage) => openRequest(page, stage, { binding_message: '47' }),
  'approve, details': (page, stage) =>
    openRequest(page, stage, {
      resource: 'https://api.example.com',
      authorization_details: JSON.stringify([
        { type: 'payment', amount: '123.50 EUR', creditor: 'Merchant with a rather long name & Sons' },
        { type: 'accounts', accounts: ['DE40 1001 0010 0123 4567 89', 'DE75 5121 0800 1245 1261 99'] },
      ]),
    }),
  'approve, passkey': (page, stage) => openRequest(page, stage, { acr_values: 'phr' }),
  approved: async (page, stage) => {
    await openRequest(page, stage)
    await press(page, says('approve.approve'))
  },
  denied: async (page, stage) => {
    await openRequest(page, stage)
    await press(page, says('approve.deny'))
  },
  'already decided': async (page, stage) => {
    await openRequest(page, stage)
    await stage.decide(await stage.newestRequest(), 'approved')
    await page.reload()
  },
  'not found': (page, stage) => page.goto(`${stage.url}/no-such-page`),
  'not yours': (page, stage) => page.goto(`${stage.url}/approve/no-such-request`),
  sessions: (page, stage) => page.goto(`${stage.url}/sessions`),
  'user code': (page, stage) => page.goto(`${stage.url}/user-code`),
  'user code, set': async (page, stage) => {
    await page.goto(`${stage.url}/user-code`)
    await page.getByLabel(says('user_code.new'), { exact: true }).fill('garden gate')
    await page.getByLabel(says('user_code.repeated'), { exact: true }).fill('garden gate')
    await press(page, says('user_code.choose'))
    await page.getByText(says('user_code.set')).waitFor()
  },
  passkeys: async (page, stage) => {
    const devtools = await page.context().newCDPSession(page)
    await devtools.send('WebAuthn.enable')
    const options = {
      protocol: 'ctap2',
      transport: 'internal',
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
    } as const
    await devtools.send('WebAuthn.addVirtualAuthenticator', { options })
    await page.goto(`${stage.url}/passkeys`)
    await Promise.all([page.waitForURL(/done=added/), page.getByRole('button', { name: says('passkeys.add') }).click()])
    await page.goto(`${stage.url}/session/start?as=another`)
    await page.getByRole('button', { name: says('sign_in.passkey') }).click()
    await seesHeading(page, says('waiting.title'))
    await page.goto(`${stage.url}/passkeys`)
    await page.getByText(says('passkeys.rename')).click()
  },
  'passkeys, sign in again': (page, stage) => page.goto(`${stage.url}/passkeys`),
  'approve, with a passkey': (page, stage) => openRequest(page, stage, { acr_values: 'phr' }),
  'approve, passkey and number': (page, stage) =>
    openRequest(page, stage, { acr_values: 'phr', binding_message: '4711' }),
  'session over': async (page, stage) => {
    await openRequest(page, stage)
    await page.context().clearCookies({ name: 'doorbell_app' })
    await press(page, says('approve.approve'))
  },
  'signed out': async (page, stage) => {
    await page.context().clearCookies({ name: 'doorbell_app' })
    await page.goto(`${stage.url}/session/ended`)
  },
  'form too old': async (page, stage) => {
    await openRequest(page, stage)
    await page
      .locator('[name=form_token]')
      .first()
      .evaluate((field) => field.setAttribute('value', 'old'))
    await press(page, says('approve.approve'))
  },
  'sign-in, wrong': async (page, stage) => {
    await page.goto(`${stage.url}/session/start?as=another`)
    await page.locator('[name=name]').fill('ana')
    await page.locator('[name=password]').fill('wrong')
    await press(page, says('sign_in.submit'))
  },
  'sign-in, cancelled': async (page, stage) => {
    await page.goto(`${stage.url}/session/start?as=another`)
    await press(page, says('app.cancel'))
  },
  consent: (page, stage) => page.goto(authorizeAddress(stage)),
  'sign-in, passkey only': (page, stage) => page.goto(authorizeAddress(stage, { prompt: 'login', acr_values: 'phr' })),
  'sign-in over': (page, stage) => page.goto(`${stage.url}/sign-in/no-such-sign-in`),
  'error of the provider': (page, stage) => page.goto(`${stage.url}/oauth/authorize?client_id=nobody`),
  expired: async (page, stage) => {
    await openRequest(page, stage)
    stage.clock.advance(600_000)
    await page.goto(`${stage.url}/session/start?to=${new URL(page.url()).pathname}`)
  },
}

test('every page: axe finds nothing in light and dark, 360 pixels are enough, targets are large', async (t) => {
  const config: ConfigInput = {
    requests: { numberMatching: true },
    webPush: { subject: 'mailto:ops@example.com' },
    resources: { 'https://api.example.com': {} },
    authorizationDetails: {
      types: {
        payment: { schema: { type: 'object' }, describe: { en: 'Pay {{amount}} to {{creditor}}' } },
        accounts: { schema: { type: 'object' }, describe: { en: 'See these of your accounts' }, narrow: ['accounts'] },
      },
    },
  }
  const stage = await openStage(t, { config })
  const browser = await openChromium(t)

  await t.test('sign-in', async () => {
    const page = await browser.newPage()
    await page.goto(stage.url)
    await seesHeading(page, says('sign_in.title'))
    await inspect(page, 'sign-in')
    await page.setViewportSize({ width: 390, height: 844 })
    await signInAs(page, ana)
    // The sign-in uses real time: on a busy machine it would be in the future of a clock that stands still.
    stage.clock.advance(Math.max(0, Date.now() - stage.clock.now()))
    await page.close()
  })

  for (const [name, open] of Object.entries(pages)) {
    await t.test(name, async () => {
      const page = await browser.newPage()
      await open(page, stage)
      await inspect(page, name)
      await page.close()
    })
  }
})

describe('with the keyboard only', () => {
  test('the first Tab reaches the skip link; Approve and Deny are adjacent and show the focus', async (t) => {
    const { stage, page } = await signedIn(t)
    await openRequest(page, stage)
    await page.keyboard.press('Tab')
    const skip = page.getByRole('link', { name: says('app.skip') })
    assert.ok(await isFocused(skip))
    const box = (await skip.boundingBox())!
    assert.ok(box.x >= 0 && box.y >= 0, 'it is visible when it has the focus')
    await page.keyboard.press('Enter')

    await page.keyboard.press('Tab')
    const approve = page.getByRole('button', { name: says('approve.approve') })
    assert.ok(await isFocused(approve))
    await showsFocus(approve)
    await page.keyboard.press('Tab')
    const deny = page.getByRole('button', { name: says('approve.deny') })
    assert.ok(await isFocused(deny))
    await showsFocus(deny)
    await page.keyboard.press('Enter')
    await seesHeading(page, says('outcome.denied_title'))
  })

  test('Tab visits every target of the page once, and shows the focus', async (t) => {
    const { stage, page } = await signedIn(t)
    await openRequest(page, stage)
    const targets = await page.locator('a[href], button').filter({ visible: true }).count()
    const seen: string[] = []
    for (let step = 0; step < targets; step++) {
      await page.keyboard.press('Tab')
      const focused = page.locator(':focus')
      await showsFocus(focused)
      seen.push(String(await focused.textContent()))
    }
    assert.equal(new Set(seen).size, targets, seen.join(' | '))
  })

  test('Ana signs in and chooses a number without a mouse', async (t) => {
    const stage = await openStage(t, { config: { requests: { numberMatching: true } } })
    await stage.ring('kiosk', { binding_message: '47' })
    const page = await openWindow(t)
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    await page.locator('[name=name]:focus').waitFor()
    await page.keyboard.type('ana')
    await page.keyboard.press('Tab')
    await page.keyboard.type(ana.password)
    await page.keyboard.press('Enter')
    await seesHeading(page, says('approve.title', { client: 'Kiosk' }))
    await page.getByRole('button', { name: '47', exact: true }).focus()
    await page.keyboard.press('Space')
    await seesHeading(page, says('outcome.approved_title'))
  })
})

describe('without scripts', () => {
  test('Ana signs in, views, approves, and revokes', async (t) => {
    const stage = await openStage(t)
    const { body } = await stage.ring('kiosk')
    const page = await openWindow(t, { javaScriptEnabled: false })
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    await signInAs(page, ana)
    await seesHeading(page, says('approve.title', { client: 'Kiosk' }))
    assert.match(await readPage(page), /Time left: (10:00|9:5\d)/)
    await press(page, says('approve.approve'))
    await seesHeading(page, says('outcome.approved_title'))
    assert.equal((await stage.poll('kiosk', body.auth_req_id)).status, 200)
    await page.goto(`${stage.url}/activity`)
    await press(page, says('activity.revoke'))
    assert.equal(await page.getByRole('status').textContent(), says('activity.revoked'))
    await press(page, says('app.sign_out'))
    await seesHeading(page, says('sign_in.title'))
  })

  test('Ben switches the window to Ana', async (t) => {
    const stage = await openStage(t)
    await stage.ring('kiosk')
    const page = await openWindow(t, { javaScriptEnabled: false })
    await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
    await signInAs(page, ben)
    await page.getByRole('link', { name: says('outcome.switch') }).click()
    await signInAs(page, ana)
    // oidc-provider's own step between two users, which scripts would submit.
    await press(page, 'Continue')
    await seesHeading(page, says('approve.title', { client: 'Kiosk' }))
  })

  test('pages say what needs scripts', async (t) => {
    const stage = await openStage(t)
    const page = await openWindow(t, { javaScriptEnabled: false })
    await page.goto(`${stage.url}/passkeys`)
    await signInAs(page, ana)
    assert.ok((await readPage(page)).includes(says('passkeys.needs_script')))
    assert.equal(
      await page
        .getByRole('button', { name: says('passkeys.add') })
        .filter({ visible: true })
        .count(),
      0,
    )
  })
})

async function signedIn(t: TestContext, config: ConfigInput = {}) {
  const stage = await openStage(t, { config })
  const page = await openWindow(t)
  await page.goto(stage.url)
  await signInAs(page, ana)
  return { stage, page }
}

async function openRequest(page: Page, stage: Stage, parameters: Record<string, string> = {}): Promise<void> {
  await stage.ring('kiosk', parameters)
  await page.goto(`${stage.url}/approve/${await stage.newestRequest()}`)
}

function authorizeAddress(stage: Stage, more: Record<string, string> = {}): string {
  const query = new URLSearchParams({
    client_id: 'phone-app',
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    scope: 'openid ciba:decide',
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
    ...more,
  })
  return `${stage.url}/oauth/authorize?${query}`
}

async function inspect(page: Page, name: string): Promise<void> {
  await page.waitForLoadState('load')
  assert.notEqual(await page.locator('html').getAttribute('lang'), null)
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    await page.evaluate(axe)
    const found = (await page.evaluate('axe.run(document, { resultTypes: ["violations"] })')) as AxeResults
    const violations = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
    assert.deepEqual(violations, [], `${name}, ${colorScheme}`)
    await page.screenshot({
      path: `${screenshots}/${name.replaceAll(/[, ]+/g, '-')}.${colorScheme}.png`,
      fullPage: true,
    })
  }
  await page.setViewportSize({ width: 360, height: 640 })
  assert.ok(Number(await page.evaluate('document.documentElement.scrollWidth')) <= 360, `${name} scrolls sideways`)
  assert.deepEqual(await page.evaluate(smallTargets), [], `${name}: targets that are too small`)
}

interface AxeResults {
  violations: { id: string; nodes: { html: string }[] }[]
}

/** Pointer targets lower than 44 pixels. Links within a sentence are exempt. */
const smallTargets = `[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select')]
  .filter((target) => target.checkVisibility() && !target.matches('.skip'))
  .filter((target) => !(target.matches('a') && [...target.parentNode.childNodes].some((node) => node.nodeType === 3 && node.data.trim())))
  .map((target) => target.matches('[type=radio], [type=checkbox]') ? target.closest('label') : target)
  .filter((target) => target.getBoundingClientRect().height < 44)
  .map((target) => target.outerHTML + ' ' + target.getBoundingClientRect().height)`

function isFocused(target: Locator): Promise<boolean> {
  return target.evaluate((element) => element === element.ownerDocument.activeElement)
}

async function showsFocus(target: Locator): Promise<void> {
  const { outlineStyle, outlineWidth } = await target.evaluate((element) => {
    const { outlineStyle, outlineWidth } = element.ownerDocument.defaultView!.getComputedStyle(element)
    return { outlineStyle, outlineWidth }
  })
  assert.ok(outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 2, `${outlineStyle} ${outlineWidth}`)
}
