/**
 * A user consents to the same client in two tabs of one browser, and both tabs continue at the same instant. Both calls
 * have read the grant before one of them stores it. Neither removes a scope of the other. In further tests, the user
 * signs out while a consent is continued.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../support/engines.ts'
import { ana, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import type { Visitor } from '../support/visitor.ts'
import { exchange, grantsOf, heardAt, openShop, pageFor, silently, tabOf, visitorWith } from './shop-consents.ts'

/** An event while the consent is stored, what causes it, and the status of the response to the code of this consent. */
const signOuts: [string, (stage: Stage, tab: Visitor) => Promise<unknown>, number][] = [
  ['nothing', async () => {}, 200],
  ['a sign-out of this browser', (_stage, tab) => signOutAt(tab), 400],
  ['a sign-out everywhere', (stage) => stage.doorbell.users.signOut(ana.id), 400],
]

async function signOutAt(tab: Visitor): Promise<unknown> {
  const { text } = await tab.get('/oauth/logout')
  const [, xsrf = ''] = /name="xsrf" value="([^"]+)"/.exec(text) ?? []
  return tab.post('/oauth/logout/confirm', { xsrf, logout: 'yes' })
}

for (const engine of engines) {
  test(`two consents at the same instant are both kept, on ${engine.name}`, async (t) => {
    const meeting = meetingOfReads('Grant')
    const stage = await openShop(t, { engine, parts: { openDatabase: meeting.openDatabase } })
    const visitor = await visitorWith(stage, 'openid')
    const other = tabOf(visitor, stage.url)
    const email = await visitor.post(await pageFor(visitor, 'openid email'), {})
    const profile = await other.post(await pageFor(other, 'openid profile'), {})
    meeting.expect(2)
    const heard = await Promise.all([heardAt(visitor, email.location), heardAt(other, profile.location)])
    assert.deepEqual(heard, ['code', 'code'])
    assert.equal(meeting.missing(), 0, 'both have read the grant before one was answered')
    for (const tab of [visitor, other]) assert.equal(await silently(tab, 'openid email profile'), 'code')
    assert.equal(await grantsOf(stage), 1)
  })

  for (const [what, signOut, status] of signOuts) {
    test(`${what} while a consent is stored, on ${engine.name}: its code is answered ${status}`, async (t) => {
      const meeting = meetingOfReads('Grant')
      const stage = await openShop(t, { engine, parts: { openDatabase: meeting.openDatabase } })
      const visitor = await visitorWith(stage, 'openid')
      const { location = '' } = await visitor.post(await pageFor(visitor, 'openid email'), {})
      meeting.expect(2)
      const continued = visitor.get(location).then((seen) => visitor.follow(seen))
      await until(() => meeting.missing() === 1)
      await signOut(stage, tabOf(visitor, stage.url))
      meeting.goOn()
      const code = new URL((await continued).location!).searchParams.get('code')!
      assert.equal((await exchange(stage, code)).status, status)
    })
  }
}

/**
 * Makes reads of a model of oidc-provider wait for each other. No read continues before the expected number of reads
 * has arrived.
 */
function meetingOfReads(model: string) {
  let missing = 0
  let met = Promise.withResolvers<void>()
  const opened: typeof openDatabase = async (...about) => {
    const database = await openDatabase(...about)
    const { read } = database
    database.read = async (sql, values) => {
      const rows = await read(sql, values)
      if (missing > 0 && /from oidc_models found\s+where model = \$1/.test(sql) && values?.[0] === model) {
        missing -= 1
        if (missing === 0) met.resolve()
        await met.promise
      }
      return rows as never
    }
    return database
  }
  return {
    openDatabase: opened,
    missing: () => missing,
    goOn: () => met.resolve(),
    expect(count: number) {
      missing = count
      met = Promise.withResolvers()
    },
  }
}
