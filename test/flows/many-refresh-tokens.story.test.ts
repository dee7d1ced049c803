/**
 * Each refresh token of a public client is replaced when it is used. The number of stored tokens is limited. If a used
 * token is sent again, the grant ends, even if the token is no longer stored.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { mostOfGrant } from '../../src/openid-provider/old-token-store.ts'
import { openBrowser } from '../support/browser.ts'
import { type Engine, engines } from '../support/engines.ts'
import { startSignIn } from '../support/phone-app.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'

const app = (client_id: string) => ({
  client_id,
  application_type: 'native' as const,
  token_endpoint_auth_method: 'none' as const,
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: ['http://127.0.0.1/callback'],
  scope: 'openid offline_access',
})

/** Refresh tokens are valid for an hour, and their grants for longer. */
const scene = (t: TestContext, engine: Engine) =>
  openStage(t, { engine, config: { clients: [app('pocket-app'), app('other-app')], tokens: { refreshTtl: 3600 } } })

/** Signs Ana in to the app. Resolves to the refresh token. */
async function signedIn(stage: Stage, browser = openBrowser(stage.url)): Promise<string> {
  const scope = { scope: 'openid offline_access', prompt: 'consent' }
  const { page, tokens } = await startSignIn(stage, scope, { id: 'pocket-app' }, browser)
  const isSignIn = page.text.includes('name="password"')
  const consent = isSignIn ? await browser.submit(page, { name: ana.username, password: ana.password }) : page
  return (await tokens((await browser.submit(consent)).url)).refresh_token!
}

const refresh = (stage: Stage, refresh_token: string, client_id = 'pocket-app') =>
  stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token, client_id })

/** Refreshes repeatedly. Resolves to the given token, and to the tokens that replaced it. */
async function refreshMany(stage: Stage, first: string, times: number): Promise<string[]> {
  const tokens = [first]
  for (let time = 0; time < times; time++) {
    stage.clock.advance(1)
    const { status, body, text } = await refresh(stage, tokens.at(-1)!)
    assert.equal(status, 200, text)
    tokens.push(String(body.refresh_token))
  }
  return tokens
}

const storedOf = async (stage: Stage) =>
  (await rowsOf(stage, `select id_hash from oidc_models where model = 'RefreshToken'`)).length

const isAlive = async (stage: Stage, token: string) => (await refresh(stage, token)).status === 200

for (const engine of engines) {
  describe(`refresh tokens of a public client, on ${engine.name}`, () => {
    test('150 refreshes leave a limited number of rows, and another session keeps its token', async (t) => {
      const stage = await scene(t, engine)
      const elsewhere = await signedIn(stage)
      const tokens = await refreshMany(stage, await signedIn(stage), 3 * mostOfGrant)
      assert.equal(await storedOf(stage), mostOfGrant + 1)
      assert.deepEqual([await isAlive(stage, tokens.at(-1)!), await isAlive(stage, elsewhere)], [true, true])
    })

    for (const [which, used] of Object.entries({ 'is not stored any more': 0, 'is still stored': -2 })) {
      test(`a used one that ${which} ends the grant when it is sent again, and no other grant`, async (t) => {
        const stage = await scene(t, engine)
        const elsewhere = await signedIn(stage)
        const tokens = await refreshMany(stage, await signedIn(stage), mostOfGrant + 10)
        const { status, body } = await refresh(stage, tokens.at(used)!)
        assert.deepEqual([status, body.error], [400, 'invalid_grant'])
        assert.deepEqual([await isAlive(stage, tokens.at(-1)!), await isAlive(stage, elsewhere)], [false, true])
        assert.equal((await rowsOf(stage, `select id_hash from oidc_models where model = 'Grant'`)).length, 1)
      })
    }

    test('a used one that is not stored any more ends no grant if it is altered, expired or sent by another client', async (t) => {
      const stage = await scene(t, engine)
      const tokens = await refreshMany(stage, await signedIn(stage), mostOfGrant + 10)
      const [first, newest] = [tokens[0]!, tokens.at(-1)!]
      const altered = `${first[0] === 'a' ? 'b' : 'a'}${first.slice(1)}`
      const exchanged = `${newest.split('.')[0]}.${first.slice(first.indexOf('.') + 1)}`
      for (const sent of [altered, exchanged]) assert.equal(await isAlive(stage, sent), false)
      assert.equal((await refresh(stage, first, 'other-app')).status, 400)
      await stage.post('/oauth/revoke', { token: first, client_id: 'pocket-app' })
      stage.clock.advance(1_800_000)
      const [, replaced] = await refreshMany(stage, newest, 1)
      stage.clock.advance(1_800_000)
      assert.equal(await isAlive(stage, first), false)
      assert.equal(await isAlive(stage, replaced!), true)
    })

    test('of a grant with more unused ones than are stored, the oldest is not valid, and ends nothing', async (t) => {
      const stage = await scene(t, engine)
      const browser = openBrowser(stage.url)
      const tokens: string[] = []
      for (let number = 0; number < mostOfGrant + 2; number++) {
        stage.clock.advance(1)
        tokens.push(await signedIn(stage, browser))
      }
      assert.equal(await storedOf(stage), mostOfGrant)
      assert.equal(await isAlive(stage, tokens[0]!), false)
      assert.deepEqual(
        await Promise.all(tokens.slice(2).map((token) => isAlive(stage, token))),
        Array(mostOfGrant).fill(true),
      )
    })
  })
}
