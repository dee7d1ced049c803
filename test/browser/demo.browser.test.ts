/** The demo page as it runs in a browser. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell } from '../../src/doorbell.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openChromium } from '../support/chromium.ts'
import { freePort } from '../support/ports.ts'
import { closeAfter } from '../support/teardown.ts'

test('each purchase begins with an empty list of messages', async (t) => {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const overrides = { issuer: url, port, database: 'sqlite::memory:', secret: newSecret() }
  const config = await loadConfig({ env: {}, demo: true, overrides })
  const doorbell = await createDoorbell(config, { log: createLog('silent') })
  closeAfter(t, () => doorbell.close())
  await doorbell.listen()
  const browser = await openChromium(t)
  const page = await browser.newPage()
  await page.goto(`${url}/demo`)

  const messages = page.locator('[data-messages] > *')
  const requests = messages.filter({ hasText: '/backchannel/authorize' })
  for (const item of ['Coffee', 'Tea']) {
    await page.getByLabel('Item').fill(item)
    await page.locator('[data-till] button').click()
    await page.locator('[data-shown-item]', { hasText: item }).waitFor()
    await requests.first().waitFor()
    assert.equal(await requests.count(), 1, item)
  }
})
