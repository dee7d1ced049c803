/** The device API refuses a call of the consent app. The user sees a page that says what to do next. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createCookies } from '../../src/consent-app/session.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signIn } from '../support/phone-app.ts'
import { vault } from '../support/rows.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { formTokenOn, openVisitor, type Seen, type Visitor } from '../support/visitor.ts'

const pages = ['/', '/activity', '/passkeys', '/sessions', '/user-code']
const errors = ({ logLines }: Stage) => logLines.filter((line) => /"level":(50|60)/.test(line))

const open = async (t: Parameters<typeof openStage>[0], engine: Engine) => openStage(t, { engine })

/**
 * Returns a browser in which the session of the app has a token without `ciba:decide`. An earlier version accepted such
 * tokens.
 */
async function withoutScope(stage: Stage): Promise<{ visitor: Visitor; form_token: string }> {
  const { access_token: accessToken } = await signIn(stage, ana, { scope: 'openid profile' })
  const cookies = createCookies({ issuer: 'http://localhost', vault, clock: stage.clock })
  const expiresAt = stage.clock.now() + 600_000
  const sealed = cookies.sealSession({ userId: ana.id, name: ana.name, locale: 'en', accessToken, expiresAt })
  const visitor = openVisitor(stage.url)
  visitor.jar.set('doorbell_app', sealed)
  return { visitor, form_token: cookies.openSession(sealed)!.formToken }
}

function asksToSignIn({ status, text }: Seen, where: string): void {
  assert.equal(status, 403, `${where}: ${text}`)
  assert.match(text, /<p role="alert">Your session has ended/, where)
  assert.doesNotMatch(text, /Signed in as|<nav/, where)
  assert.match(text, /href="\/session\/start\?to=/, where)
}

for (const engine of engines) {
  describe(`the consent app, on ${engine.name}`, () => {
    test('a sign-in whose scope was edited is refused, and can be started again', async (t) => {
      const stage = await open(t, engine)
      const visitor = openVisitor(stage.url)
      const start = await visitor.get('/session/start?to=/')
      const edited = start.location!.replace(/scope=[^&]+/, 'scope=openid')
      const signInPage = await visitor.follow(await visitor.get(edited))
      const action = /action="(\/sign-in\/[^"/]+)"/.exec(signInPage.text)![1]!
      const seen = await visitor.follow(await visitor.post(action, { name: ana.username, password: ana.password }))
      assert.equal(seen.status, 400, seen.text)
      assert.match(seen.text, /href="\/session\/start\?to=/)
      assert.equal(visitor.jar.has('doorbell_app'), false)
      assert.equal((await visitor.follow(await visitor.get('/'))).status, 200, 'the next sign-in')
      assert.deepEqual(errors(stage), [])
    })

    test('a session without the scope gets a page with a link to sign in, everywhere', async (t) => {
      const stage = await open(t, engine)
      await stage.ring('kiosk')
      const id = await stage.newestRequest()
      const { visitor, form_token } = await withoutScope(stage)
      for (const path of [...pages, `/approve/${id}`]) asksToSignIn(await visitor.get(path), path)
      const forms: [path: string, fields: Record<string, string>][] = [
        ['/activity/revoke', { request_id: id }],
        ['/activity/block', { client_id: 'kiosk', blocked: 'true' }],
        ['/passkeys', { passkey: '{}' }],
        ['/passkeys/rename', { id: 'x', name: 'y' }],
        ['/passkeys/remove', { id: 'x' }],
        ['/sessions/end', {}],
        ['/user-code', { user_code: '493817', repeated: '493817' }],
        ['/user-code/remove', {}],
        ['/notifications', { endpoint: 'https://push.example/1' }],
        [`/approve/${id}`, { decision: 'approve' }],
      ]
      for (const [path, fields] of forms) asksToSignIn(await visitor.post(path, { form_token, ...fields }), path)
      for (const path of ['/passkeys/options', `/approve/${id}/passkey`]) {
        const { status, text } = await visitor.post(path, { form_token }, { accept: '*/*' })
        assert.deepEqual([status, JSON.parse(text).error], [403, 'insufficient_scope'], path)
      }
      assert.deepEqual(errors(stage), [])
    })

    test('a form with a wrong value is the cause itself: the page does not name a fault of the server', async (t) => {
      const stage = await open(t, engine)
      const visitor = openVisitor(stage.url)
      const form_token = formTokenOn(await visitor.signIn(ana))
      for (const fields of [{}, { id: '' }, { name: 'x' }]) {
        const { status, text } = await visitor.post('/passkeys/remove', { form_token, ...fields })
        assert.equal(status, 400, text)
        assert.match(text, /<p role="alert">The server could not accept this form\./)
        assert.match(text, /href="\/passkeys"/)
      }
      assert.deepEqual(errors(stage), [])
    })

    test('after a sign-out elsewhere, a form says that the session has ended, and not that it was done', async (t) => {
      const stage = await open(t, engine)
      const visitor = openVisitor(stage.url)
      const form_token = formTokenOn(await visitor.signIn(ana))
      await stage.doorbell.users.signOut(ana.id)
      for (const path of ['/activity/block', '/sessions/end', '/notifications', '/user-code/remove']) {
        const { status, text } = await visitor.post(path, { form_token, client_id: 'kiosk', id: 'x' })
        assert.equal(status, 401, `${path}: ${text}`)
        assert.match(text, /href="\/session\/start\?to=/, path)
      }
    })
  })
}
