/** One call reads the same row from the database only once. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { createAuthenticator } from '../support/authenticator.ts'
import { type Engine, engines } from '../support/engines.ts'
import { bearerOf, codeFor, signIn } from '../support/phone-app.ts'
import { callWith, newProofKey, pollWith, proofOf } from '../support/proofs.ts'
import { ana, credentials, type Stage } from '../support/stage.ts'
import { approved, asWallet, ath, openDpopStage } from './dpop-clients.ts'
import { creationOptions, passkeys } from './passkeys.ts'

for (const engine of engines) {
  describe(`what one call looks up, on ${engine.name}`, () => {
    test('userinfo: the token once, in whatever way it is sent', async (t) => {
      const { stage, during } = await openCounted(t, engine)
      const { access_token } = await tokensOf(stage)
      const authorization = `Bearer ${access_token}`
      const each = [
        () => stage.get('/oauth/userinfo', { authorization }),
        () => stage.post('/oauth/userinfo', { access_token }),
        () => stage.get('/oauth/userinfo', { authorization }),
      ]
      for (const call of each) assert.deepEqual(await during(call, 200), ['AccessToken', 'Grant'])
      const unknown = () => stage.get('/oauth/userinfo', { authorization: 'Bearer unknown' })
      assert.deepEqual(await during(unknown, 401), ['AccessToken'])
    })

    test('userinfo with a DPoP proof: the token once', async (t) => {
      const { stage, during } = await openCounted(t, engine)
      const key = await newProofKey()
      const authReqId = await approved(stage)
      const { body } = await pollWith(stage, await proofOf(stage, key), authReqId, asWallet)
      const token = String(body.access_token)
      const call = async (sent: string) => {
        const claims = { htm: 'GET', htu: `${stage.url}/oauth/userinfo`, ath: ath(sent) }
        const dpop = await proofOf(stage, key, { claims })
        return stage.get('/oauth/userinfo', { authorization: `DPoP ${sent}`, dpop })
      }
      assert.deepEqual(await during(() => call(token), 200), ['AccessToken', 'Grant'])
      assert.deepEqual(await during(() => call('unknown'), 401), ['AccessToken'])
    })

    test('after its user is signed out, a token is refused at the next call: nothing is remembered', async (t) => {
      const { stage, during } = await openCounted(t, engine)
      const { access_token } = await tokensOf(stage)
      const call = () => stage.get('/oauth/userinfo', { authorization: `Bearer ${access_token}` })
      await during(call, 200)
      await stage.doorbell.users.signOut(ana.id)
      assert.deepEqual(await during(call, 401), ['AccessToken'])
    })

    test('introspection, revocation and refresh: each kind of token once, and one removal', async (t) => {
      const { stage, during, removals } = await openCounted(t, engine)
      const { access_token, refresh_token } = await tokensOf(stage)
      const post = (path: string, form: Record<string, string>) => () => stage.post(path, form, credentials.kiosk)
      const kinds = ['AccessToken', 'Grant', 'RefreshToken']
      assert.deepEqual(await during(post('/oauth/introspect', { token: access_token }), 200), kinds)
      const refresh = { grant_type: 'refresh_token', refresh_token }
      assert.deepEqual(await during(post('/oauth/token', refresh), 200), ['Grant', 'RefreshToken'])
      assert.deepEqual(await during(post('/oauth/revoke', { token: refresh_token }), 200), [
        'AccessToken',
        'RefreshToken',
      ])
      assert.equal(removals(), 1, 'of everything that was issued under the grant')
    })

    test('a public client with a DPoP proof: its code once, its refresh token once', async (t) => {
      const { stage, during } = await openCounted(t, engine)
      const key = await newProofKey()
      const sent = async (form: Record<string, string>) =>
        callWith(
          stage,
          'POST',
          '/oauth/token',
          { dpop: await proofOf(stage, key) },
          { client_id: 'pocket-app', ...form },
        )
      const scope = { client_id: 'pocket-app', scope: 'openid ciba:decide offline_access', prompt: 'consent' }
      const { form } = await codeFor(stage, ana, undefined, scope)
      let tokens: Record<string, unknown> = {}
      const exchange = async () => {
        const answer = await sent({ ...form, client_id: 'pocket-app' })
        tokens = answer.body
        return answer
      }
      assert.deepEqual(
        (await during(exchange, 200)).filter((model) => model === 'AuthorizationCode'),
        ['AuthorizationCode'],
      )
      const refresh = { grant_type: 'refresh_token', refresh_token: String(tokens.refresh_token) }
      assert.deepEqual(await during(() => sent(refresh), 200), ['Grant', 'RefreshToken'])
      assert.deepEqual(await during(() => sent({ ...refresh, refresh_token: 'unknown' }), 400), ['RefreshToken'])
    })

    test('sessions in the device API: the token once', async (t) => {
      const { stage, during } = await openCounted(t, engine)
      const authorization = await bearerOf(stage)
      const list = () => stage.get('/backchannel/sessions', { authorization })
      assert.deepEqual(await during(list, 200), ['AccessToken', 'Session'])
      const note = () => stage.post('/backchannel/sessions', { browser: 'Firefox' }, authorization)
      // oidc-provider reads the session to check the token, but does not return the session. So the endpoint reads it
      // again.
      assert.deepEqual(await during(note, 201), ['AccessToken', 'Session', 'Session'])
      const { body } = await list()
      assert.deepEqual(
        (body.sessions as { current: boolean }[]).map(({ current }) => current),
        [true],
      )
    })

    test('adding a passkey: the passkeys of the user once, for the options and for the passkey', async (t) => {
      const { stage, during, lists } = await openCounted(t, engine)
      const bearer = `Bearer ${(await signIn(stage)).access_token}`
      await during(() => stage.post(`${passkeys}/options`, {}, bearer), 200)
      assert.equal(lists(), 1, 'for the options')
      const passkey = createAuthenticator(stage.url).create(await creationOptions(stage, bearer))
      await during(() => stage.post(passkeys, { passkey }, bearer), 201)
      assert.equal(lists(), 1, 'for the passkey')
    })
  })
}

/**
 * Records which models of oidc-provider are looked up, how often passkeys are listed, and how often a grant is removed.
 */
async function openCounted(t: TestContext, engine: Engine) {
  let models: string[] = []
  let lists = 0
  let removals = 0
  const opened: typeof openDatabase = async (...about) => {
    const database = await openDatabase(...about)
    const { read, step } = database
    database.read = (sql, values) => {
      if (/from oidc_models found\s+where model = \$1/.test(sql)) models.push(String(values![0]))
      if (sql.startsWith('select * from passkeys where user_id')) lists += 1
      return read(sql, values)
    }
    database.step = (first, options) => {
      if (first.sql.startsWith('delete from oidc_models where grant_hash')) removals += 1
      return step(first, options)
    }
    return database
  }
  const stage = await openDpopStage(t, { engine, parts: { openDatabase: opened } })
  return {
    stage,
    /** Resolves to the models that a call looks up, in alphabetical order. */
    async during(call: () => Promise<{ status: number; text: string }>, status: number): Promise<string[]> {
      await stage.doorbell.idle()
      models = []
      lists = 0
      removals = 0
      const answer = await call()
      assert.equal(answer.status, status, answer.text)
      return models.sort()
    },
    lists: () => lists,
    removals: () => removals,
  }
}

/** Resolves to the tokens of an approved request of Kiosk. */
async function tokensOf(stage: Stage) {
  const { auth_req_id } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
  await stage.decide(await stage.newestRequest(), 'approved')
  const { body } = await stage.poll('kiosk', auth_req_id)
  return { access_token: String(body.access_token), refresh_token: String(body.refresh_token) }
}
