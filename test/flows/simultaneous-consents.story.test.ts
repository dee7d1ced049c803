/**
 * Two consents of one browser to the same client, in two tabs, that are continued at the same instant: both have read the
 * grant before one of them stores it, and none of them takes a scope from the other.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../support/engines.ts'
import { grantsOf, heardAt, openShop, pageFor, silently, tabOf, visitorWith } from './shop-consents.ts'

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
}

/** Reads of a model of oidc-provider wait for each other: none continues before as many as expected have read. */
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
    expect(count: number) {
      missing = count
      met = Promise.withResolvers()
    },
  }
}
