/** How users choose, change and remove their user code: with the device API, and on the page of the consent app. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, ben, credentials } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'
import { formTokenOn, openVisitor, type Visitor } from '../support/visitor.ts'
import { assertRefused, code, minutes, openCodeStage } from './user-codes.ts'

describe('the address of the user code', () => {
  test('is for the user alone: not for CIBA clients, device services or callers without a token', async (t) => {
    const stage = await openCodeStage(t)
    for (const authorization of [undefined, credentials.phoneService, credentials.kiosk, 'Bearer x']) {
      const fields = { login_hint: 'ana', user_code: 'pelican-1' }
      assert.equal((await stage.post('/backchannel/user-code', fields, authorization)).status, 401)
      assert.equal((await stage.post('/backchannel/user-code/remove', fields, authorization)).status, 401)
    }
    assert.equal((await countRows(stage)).user_codes, 0)
  })

  test('takes 4 to 64 visible characters that are not the password', async (t) => {
    const stage = await openCodeStage(t)
    const authorization = await bearerOf(stage)
    const set = (user_code: string) => stage.post('/backchannel/user-code', { user_code }, authorization)
    for (const wrong of ['', 'abc', 'x'.repeat(65), 'abc\u0007d', 'abc\u200bd', ' abcd', 'a\nbcd']) {
      assertRefused(await set(wrong), 'invalid_request')
    }
    const password = await set(ana.password)
    assertRefused(password, 'invalid_request')
    assert.equal(password.body.is_password, true)
    assert.ok(!password.text.includes(ana.password))
    for (const right of ['abcd', 'x'.repeat(64), 'ちょうちん']) assert.equal((await set(right)).status, 200, right)
  })

  test('confirms a password only to a caller that has proven to be the user', async (t) => {
    const stage = await openCodeStage(t)
    const authorization = await bearerOf(stage)
    stage.clock.advance(6 * minutes)
    const guess = (user_code: string, present_code?: string) =>
      stage.post('/backchannel/user-code', { user_code, ...(present_code && { present_code }) }, authorization)
    for (const present of [undefined, 'wrong']) {
      const [right, wrong] = [await guess(ana.password, present), await guess('not-it-either', present)]
      assert.deepEqual([right.status, right.text], [wrong.status, wrong.text])
    }
    assert.equal((await guess(ana.password, code)).body.is_password, true)
    assert.equal((await guess('pelican-1', code)).status, 200, 'and the current code stays until then')
  })
  for (const engine of engines) {
    test(`does not help to guess the password: only a caller that may change the code learns whether it was right, and only a few times, on ${engine.name}`, async (t) => {
      const stage = await openCodeStage(t, { engine, config: { limits: { signIn: { perName: 3, pause: 30 } } } })
      const authorization = await bearerOf(stage)
      const set = (user_code: string, more = {}) =>
        stage.post('/backchannel/user-code', { user_code, ...more }, authorization)
      // These are as many attempts as the queue accepts for one user.
      const tries = await Promise.all(Array.from({ length: 8 }, (_, number) => set(`guess-${number}`)))
      assert.equal(tries.filter(({ status }) => status === 200).length, 3)
      for (const { status, body, headers } of tries.filter(({ status }) => status !== 200)) {
        assert.deepEqual(
          [status, body.error, body.too_often, headers.get('retry-after')],
          [429, 'access_denied', true, '30'],
        )
      }
      assert.equal((await set(ana.password)).status, 429, 'even the right one is not checked')
      assert.ok((await bearerOf(stage)).startsWith('Bearer '), 'she can still sign in')
      stage.clock.advance(30_000)
      assert.equal((await set(ana.password)).body.is_password, true)
      assert.equal((await set('pelican-1')).status, 429)

      stage.clock.advance(6 * minutes)
      for (const present_code of ['', 'anything']) {
        const { body } = await set(ana.password, { present_code })
        assert.ok(!('is_password' in body), 'the session alone reveals nothing about the code')
      }
    })
  }

  test('no code is in the log, in an answer or in the database, right or wrong', async (t) => {
    const stage = await openCodeStage(t)
    const authorization = await bearerOf(stage)
    const [fresh, wrong] = [newSecret(12), newSecret(12)]
    await stage.post('/backchannel/user-code', { user_code: fresh }, authorization)
    const answers = [await stage.askFor(wrong), await stage.askFor(fresh), await stage.askFor(code)]
    const [{ hash }] = (await rowsOf(stage, 'select * from user_codes')) as [{ hash: string }]
    assert.match(hash, /^\$scrypt\$ln=/)
    const kept = JSON.stringify(await rowsOf(stage, 'select * from user_code_tries')) + hash
    for (const secretCode of [fresh, wrong, code]) {
      const places = [stage.logLines.join(''), kept, ...answers.map(({ text }) => text)]
      assert.ok(places.every((place) => !place.includes(secretCode)))
    }
    assert.ok(stage.logLines.some((line) => line.includes('user_code.set')))
  })
})

describe('the page of the user code', () => {
  const form = (page: { text: string }, fields: Record<string, string>) => ({
    form_token: formTokenOn(page as never),
    ...fields,
  })
  const post = async (visitor: Visitor, path: string, fields: Record<string, string>) => {
    const page = await visitor.get('/user-code')
    return visitor.follow(await visitor.post(path, form(page, fields)))
  }

  test('sets, changes and removes it', async (t) => {
    const stage = await openCodeStage(t)
    const visitor = openVisitor(stage.url)
    const page = await visitor.signIn(ben, '/user-code')
    assert.match(page.text, /You have no code\./)
    assert.ok(!page.text.includes('present_code'))
    assert.match(
      (await post(visitor, '/user-code', { user_code: 'gull-22', repeated: 'gull-23' })).text,
      /not the same/,
    )
    assert.match(
      (await post(visitor, '/user-code', { user_code: 'abc', repeated: 'abc' })).text,
      /4 to 64 visible characters/,
    )
    const { password } = ben
    assert.match(
      (await post(visitor, '/user-code', { user_code: password, repeated: password })).text,
      /is your password/,
    )
    assert.match(
      (await post(visitor, '/user-code', { user_code: 'gull-22', repeated: 'gull-22' })).text,
      /Your code is set/,
    )
    assertRefused(await stage.askFor(undefined, { about: 'ben' }), 'missing_user_code')

    stage.clock.advance(6 * minutes)
    const later = await visitor.get('/user-code')
    assert.match(later.text, /name="present_code"/)
    assert.match(later.text, /href="\/session\/start\?to=\/user-code&amp;as=another"/)
    const next = { user_code: 'gull-33', repeated: 'gull-33' }
    assert.match((await post(visitor, '/user-code', { ...next, present_code: 'x' })).text, /current code is wrong/)
    assert.match((await post(visitor, '/user-code', next)).text, /Nothing was changed\. Sign in again/)
    assert.match((await post(visitor, '/user-code', { ...next, present_code: 'gull-22' })).text, /Your code is set/)
    assert.match((await post(visitor, '/user-code', { ...next, present_code: 'gull-33' })).text, /Your code is set/)
    for (let each = 0; each < 2; each++) await post(visitor, '/user-code', { ...next, present_code: 'gull-33' })
    const again = await post(visitor, '/user-code', { ...next, present_code: 'gull-33' })
    assert.match(again.text, /changed the code too often/)
    const gone = await post(visitor, '/user-code/remove', { present_code: 'gull-33' })
    assert.match(gone.text, /Your code has been removed/)
    assert.equal((await stage.askFor(undefined, { about: 'ben' })).status, 200)
  })

  test('changes nothing for a foreign form, or without a session', async (t) => {
    const stage = await openCodeStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ben, '/user-code')
    for (const path of ['/user-code', '/user-code/remove']) {
      const fields = { form_token: 'made-up', user_code: 'gull-22', repeated: 'gull-22' }
      assert.equal((await visitor.post(path, fields)).status, 403)
      assert.equal((await openVisitor(stage.url).post(path, fields)).status, 401)
    }
    assert.equal((await countRows(stage)).user_codes, 0)
  })
})
