/**
 * The number of tokens that a user causes in one session is limited. No other tab, browser or client loses its tokens.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { mostOfGrant } from '../../src/openid-provider/old-token-store.ts'
import { openBrowser } from '../support/browser.ts'
import { engines } from '../support/engines.ts'
import { bearerOf, codeFor } from '../support/phone-app.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openVisitor, type Visitor } from '../support/visitor.ts'

/** The number of stored models of each user, by kind. */
async function countsOf(stage: Stage, userId: string): Promise<Record<string, number>> {
  const rows = await rowsOf(
    stage,
    'select model, count(*) as number from oidc_models where user_id = $1 group by model order by model',
    [userId],
  )
  return Object.fromEntries(rows.map(({ model, number }) => [model, Number(number)]))
}

const renew = async (visitor: Visitor) => (await visitor.follow(await visitor.get('/session/start?to=/'))).status

const isServed = async (visitor: Visitor) => (await visitor.get('/activity')).status === 200

/** Returns another tab of the same browser. The tab has a copy of the cookies that the browser has now. */
function tabOf(stage: Stage, { jar }: Visitor): Visitor {
  const tab = openVisitor(stage.url)
  for (const [name, value] of jar) tab.jar.set(name, value)
  return tab
}

for (const engine of engines) {
  describe(`tokens of one session, on ${engine.name}`, () => {
    test('150 new tokens in the consent app leave a limited number of rows', async (t) => {
      const stage = await openStage(t, { engine })
      const [here, elsewhere, bens] = [openVisitor(stage.url), openVisitor(stage.url), openVisitor(stage.url)]
      for (const visitor of [here, elsewhere]) await visitor.signIn(ana)
      await bens.signIn(ben)
      const app = await bearerOf(stage)
      const before = await countsOf(stage, ana.id)
      for (let number = 0; number < 150; number++) assert.equal(await renew(here), 200)
      const after = await countsOf(stage, ana.id)
      assert.deepEqual(
        {
          ...after,
          AccessToken: after.AccessToken! - mostOfGrant,
          AuthorizationCode: after.AuthorizationCode! - mostOfGrant,
        },
        { ...before, AccessToken: before.AccessToken! - 1, AuthorizationCode: before.AuthorizationCode! - 1 },
      )
      assert.deepEqual(await Promise.all([here, elsewhere, bens].map(isServed)), [true, true, true])
      assert.equal(
        (await stage.get('/backchannel/authinfo', { authorization: app })).status,
        200,
        "another client's token",
      )
    })

    test('tabs that renew their tokens now and then keep each other’s tokens valid', async (t) => {
      const stage = await openStage(t, { engine })
      const first = openVisitor(stage.url)
      await first.signIn(ana)
      const tabs = [first, tabOf(stage, first), tabOf(stage, first)]
      for (let minute = 0; minute < 60; minute++) {
        stage.clock.advance(60_000)
        // Each tab renews its token every eight minutes, and uses it every minute.
        for (const [index, tab] of tabs.entries()) {
          if (minute % 8 === index) assert.equal(await renew(tab), 200)
          assert.equal(await isServed(tab), true, `tab ${index} in minute ${minute}`)
        }
      }
    })

    test('150 codes for an app, and a token for each, leave a limited number of rows', async (t) => {
      const stage = await openStage(t, { engine })
      const browser = openBrowser(stage.url)
      const tokens: unknown[] = []
      for (let number = 0; number < 150; number++) {
        stage.clock.advance(1)
        const { exchange } = await codeFor(stage, ana, browser)
        tokens.push((await exchange()).body.access_token)
      }
      const { AccessToken, AuthorizationCode } = await countsOf(stage, ana.id)
      assert.deepEqual({ AccessToken, AuthorizationCode }, { AccessToken: mostOfGrant, AuthorizationCode: mostOfGrant })
      const statusOf = async (token: unknown) =>
        (await stage.get('/backchannel/authinfo', { authorization: `Bearer ${token}` })).status
      const newest = await Promise.all(tokens.slice(-mostOfGrant).map(statusOf))
      assert.deepEqual(newest, newest.fill(200))
      assert.equal(await statusOf(tokens.at(-mostOfGrant - 1)), 401)
    })
  })
}
