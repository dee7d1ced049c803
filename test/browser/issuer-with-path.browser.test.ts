/** The issuer has a path, for example `/tenants/bank`: the app, its service worker and the demo work below it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openChromium, says, seesHeading, signInAs } from '../support/chromium.ts'
import { freePort } from '../support/ports.ts'
import { ana, openStage } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'

const path = '/tenants/bank'

test('the list is up to date, a request is approved, and the service worker is responsible for the path', async (t) => {
  const port = await freePort()
  const issuer = `http://localhost:${port}${path}`
  const stage = await openStage(t, { port, config: { issuer, webPush: { subject: 'mailto:ops@example.com' } } })
  const page = await (await openChromium(t)).newPage()
  await page.goto(issuer)
  await signInAs(page, ana)
  await seesHeading(page, says('waiting.title'))
  await stage.ring('kiosk')
  await page.getByRole('link', { name: says('waiting.look') }).click()
  await seesHeading(page, says('approve.title', { client: 'Kiosk' }))
  await page.getByRole('button', { name: says('approve.approve') }).click()
  await page.waitForURL('**?just=approve')
  assert.ok(page.url().startsWith(`${issuer}/approve/`))
  const scope = await page.evaluate('navigator.serviceWorker.ready.then((registration) => registration.scope)')
  assert.equal(scope, `${issuer}/`)
  const manifest = await page.evaluate(
    `fetch(document.querySelector('link[rel=manifest]').href).then((response) => response.json())`,
  )
  const { start_url, icons } = manifest as { start_url: string; icons: { src: string }[] }
  const resolved = [start_url, icons[0]!.src].map((address) => new URL(address, `${issuer}/manifest.webmanifest`).href)
  assert.deepEqual(resolved, [`${issuer}/`, `${issuer}/assets/icon.svg`])
})

test('in the demo, Alice pays', async (t) => {
  const port = await freePort()
  const issuer = `http://localhost:${port}${path}`
  const overrides = { issuer, port, database: 'sqlite::memory:', secret: newSecret() }
  const config = await loadConfig({ env: {}, demo: true, overrides })
  const doorbell = await createDoorbell(config, { log: createLog('silent') })
  closeAfter(t, () => doorbell.close())
  await doorbell.listen()
  const page = await (await openChromium(t)).newPage()
  await page.goto(`${issuer}/demo`)
  const phone = page.frameLocator('[data-phone]')
  await phone.locator('[name=name]').fill('alice')
  await phone.locator('[name=password]').fill('alice')
  await phone.getByRole('button', { name: says('sign_in.submit'), exact: true }).click()
  await phone.getByRole('heading', { name: says('waiting.title') }).waitFor()
  await page.locator('[data-till] button').click()
  await phone.getByRole('link', { name: says('waiting.look') }).click()
  await phone.getByRole('button', { name: says('approve.approve') }).click()
  await page.getByText('Paid. Alice agreed').waitFor()
})
