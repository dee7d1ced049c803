/** Signing in at the consent app. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ana, ben, openStage } from '../support/stage.ts'
import { formTokenOn, openVisitor, type Seen, type Visitor } from '../support/visitor.ts'
import { assertRefused, looking, nothingDecided } from './consent-app-visits.ts'

describe('signing in', () => {
  test('leads to no pages but those of the app', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    for (const to of [
      '//evil.example',
      'https://evil.example',
      'https:evil.example',
      '/\\evil.example',
      '\\\\evil.example',
      '/%2Fevil.example',
      '/approve/..%2f..%2f/evil.example',
      '/approve/x/../../oauth/logout',
      '/activity\n//evil.example',
      '/activity?x=//evil.example',
      'javascript:alert(1)',
      ' //evil.example',
      '/session/end',
      '',
    ]) {
      for (const written of [encodeURIComponent(to), encodeURIComponent(encodeURIComponent(to))]) {
        const end = await lastStep(visitor, `/session/start?to=${written}`)
        assert.equal(end, '/', to)
      }
    }
    for (const to of ['/activity', '/passkeys', '/approve/01900000-0000-7000-8000-000000000000', '/']) {
      assert.equal(await lastStep(visitor, `/session/start?to=${encodeURIComponent(to)}`), to)
    }
    assert.equal(await lastStep(visitor, '/session/start?to=/activity&to=//evil.example'), '/')
  })

  test('a cookie planted before the sign-in is not accepted after it', async (t) => {
    const stage = await openStage(t)
    const mallory = openVisitor(stage.url)
    const malloryToken = formTokenOn(await mallory.signIn(ben))
    const planted = mallory.jar.get('doorbell_app')!

    const visitor = openVisitor(stage.url)
    visitor.jar.set('doorbell_app', planted)
    const page = await visitor.follow(await visitor.get('/session/start?as=another'))
    const action = /action="(\/sign-in\/[^"/]+)">/.exec(page.text)![1]!
    const home = await visitor.follow(await visitor.post(action, { name: 'ana', password: ana.password }))
    assert.match(home.text, /Signed in as Ana/)
    assert.notEqual(visitor.jar.get('doorbell_app'), planted)
    assert.notEqual(formTokenOn(home), malloryToken)
    assert.match((await mallory.get('/')).text, /Signed in as Ben/)

    for (const forged of [
      'x',
      `${planted}x`,
      `${planted.slice(0, -4)}AAAA`,
      visitor.jar.get('doorbell_app_sign_in') ?? '',
    ]) {
      const forger = openVisitor(stage.url)
      forger.jar.set('doorbell_app', forged)
      assert.equal((await forger.get('/')).status, 303)
    }
  })

  test("the answer to another browser's sign-in is refused (login CSRF)", async (t) => {
    const stage = await openStage(t)
    const mallory = openVisitor(stage.url)
    let step = await mallory.get('/session/start')
    while (!step.location?.startsWith('/sign-in/')) step = await mallory.get(step.location!)
    step = await mallory.post(step.location, { name: 'ben', password: ben.password })
    while (!step.location?.startsWith('/session/callback')) step = await mallory.get(step.location!)
    const callback = step.location

    const visitor = openVisitor(stage.url)
    assertRefused(await visitor.get(callback), 400, /started in another browser/)
    await visitor.get('/session/start')
    assertRefused(await visitor.get(callback), 400)
    assert.equal(visitor.jar.has('doorbell_app'), false)
    for (const query of ['', '?code=x', '?error=access_denied', '?code=x&state=y']) {
      assertRefused(await visitor.get(`/session/callback${query}`), 400)
    }
  })

  test('the same answer is accepted once', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    let step = await visitor.get('/session/start')
    while (!step.location?.startsWith('/sign-in/')) step = await visitor.get(step.location!)
    step = await visitor.post(step.location, { name: 'ana', password: ana.password })
    while (!step.location?.startsWith('/session/callback')) step = await visitor.get(step.location!)
    const kept = new Map(visitor.jar)
    assert.equal((await visitor.get(step.location)).status, 303)
    for (const [name, value] of kept) visitor.jar.set(name, value)
    assertRefused(await visitor.get(step.location), 400)
  })

  test('after sign-out, a link does not sign in again', async (t) => {
    const { stage, path, page, visitor } = await looking(t)
    const copied = visitor.jar.get('doorbell_app')!
    assert.ok(copied)
    await visitor.post('/session/end', { form_token: formTokenOn(page) })
    assert.equal(visitor.jar.has('doorbell_app'), false)
    const seen = await visitor.follow(await visitor.get(path))
    assert.match(seen.text, /<h1>Sign in<\/h1>/)
    assert.ok(!/Kiosk/.test(seen.text))

    // A copy of the session does not work either.
    const copy = openVisitor(stage.url)
    copy.jar.set('doorbell_app', copied)
    assert.match((await copy.get(path)).location ?? '', /^\/session\/start/)
    await nothingDecided(stage)
  })
})

/** Resolves to the page to which a user with a session at the provider is finally redirected. */
async function lastStep(visitor: Visitor, path: string): Promise<string | undefined> {
  let at: string | undefined = path
  for (;;) {
    const seen: Seen = await visitor.get(at)
    if (at.startsWith('/session/callback')) return seen.location
    if (seen.location === undefined) throw new Error(`stopped at ${at}: ${seen.text}`)
    at = seen.location
  }
}
