/** The mailbox of development shows each mail as a mail program does, and beside it the text of the mail. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openWindow } from '../support/chromium.ts'
import { openStage } from '../support/stage.ts'

test('the HTML of a mail is shown without scripts; its link opens the request in the whole window', async (t) => {
  const stage = await openStage(t)
  await stage.ring('kiosk', { binding_message: 'Coffee 4.20' })
  await stage.doorbell.idle()
  const page = await openWindow(t)
  await page.goto(`${stage.url}/dev/mailbox`)
  assert.match((await page.locator('pre').textContent()) ?? '', /Coffee 4\.20/)

  const frame = page.locator('iframe')
  assert.equal(await frame.getAttribute('sandbox'), 'allow-top-navigation-by-user-activation')
  const { headers } = await stage.get((await frame.getAttribute('src'))!)
  assert.match(
    headers.get('content-security-policy')!,
    /^sandbox allow-top-navigation-by-user-activation; default-src 'none'/,
  )

  const mail = frame.contentFrame()
  const link = mail.getByRole('link', { name: 'View the request' })
  // The style of the mail is applied.
  const style = await link.evaluate((element) => {
    const { backgroundColor, display } = element.ownerDocument.defaultView!.getComputedStyle(element)
    return [backgroundColor, display]
  })
  assert.deepEqual(style, ['rgb(26, 79, 180)', 'inline-block'])
  await link.click()
  await page.waitForURL(/\/sign-in\//)
})

test('a mail that is not in the mailbox is not found', async (t) => {
  const stage = await openStage(t)
  assert.equal((await stage.get('/dev/mailbox/none')).status, 404)
})
