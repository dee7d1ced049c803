/** Guessing user names or passwords reveals nothing, and is slowed down. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { auditOf } from '../support/audit.ts'
import { engines } from '../support/engines.ts'
import { startSignIn } from '../support/phone-app.ts'
import { ana, basic, ben, CIBA, openStage } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { assertTooMuch, minute, second } from './limited-requests.ts'

for (const engine of engines) {
  describe(`a client that sends names to find out which users exist, on ${engine.name} (M30)`, () => {
    const limits = { perClient: { unknownPerMinute: 3 } }

    test('of twenty unknown names at once, three get unknown_user_id, and the others the error of the limit', async (t) => {
      const stage = await openStage(t, { engine, config: { limits } })
      const names = Array.from({ length: 20 }, (_, number) => `nobody-${number}`)
      const answers = await Promise.all(names.map((login_hint) => stage.ring('kiosk', { login_hint })))
      const told = answers.filter(({ body }) => body.error === 'unknown_user_id')
      assert.equal(told.length, 3)
      for (const answer of answers.filter((each) => !told.includes(each))) assertTooMuch(answer)
      const reached = auditOf(stage, 'limit.reached')
      assert.equal(reached.length, 17)
      assert.ok(reached.every(({ outcome, client }) => outcome === 'perClient.unknownPerMinute' && client === 'kiosk'))
      assert.deepEqual(
        (await rowsOf(stage, 'select told from unknown_users')).map(({ told }) => told),
        [3],
      )
    })

    test('existing names then get the same error, even with a wrong user code, until the minute is over', async (t) => {
      const client_secret = newSecret()
      const booth = {
        client_id: 'booth',
        client_secret,
        grant_types: [CIBA],
        backchannel_token_delivery_mode: 'poll' as const,
        backchannel_user_code_parameter: true,
      }
      const users = [{ ...ana, user_code: 'otter-1234' }, ben]
      const stage = await openStage(t, { engine, config: { limits, users, clients: [booth] } })
      const ask = (login_hint: string, more = {}) =>
        stage.post('/backchannel/authorize', { scope: 'openid', login_hint, ...more }, basic('booth', client_secret))
      for (const name of ['a', 'b', 'c']) assert.equal((await ask(name)).body.error, 'unknown_user_id')
      const before = await countRows(stage)
      const too = [await ask('d'), await ask('ana'), await ask('ana', { user_code: 'wrong' }), await ask('ben')]
      for (const answer of too) assertTooMuch(answer, 60)
      assert.equal(new Set(too.map(({ text }) => text)).size, 1, 'word by word')
      assert.deepEqual(await countRows(stage), before)
      assert.equal((await stage.ring('kiosk')).status, 200, 'another client is not affected')
      stage.clock.advance(20 * second)
      assertTooMuch(await ask('ben'), 40)
      await stage.restart()
      assertTooMuch(await ask('ben'), 40)
      stage.clock.advance(40 * second)
      assert.equal((await ask('ben')).status, 200)
      assert.equal((await ask('a')).body.error, 'unknown_user_id')
    })
  })
}

describe('unknown names', () => {
  test('are not counted where the client is not told of them, nor for an invalid hint', async (t) => {
    const limits = { perClient: { unknownPerMinute: 1 } }
    const stage = await openStage(t, { config: { limits, requests: { unknownUsers: 'pretend' } } })
    for (const login_hint of ['a', 'b', 'c', 'ana']) {
      assert.equal((await stage.ring('kiosk', { login_hint })).status, 200)
    }
    const plain = await openStage(t, { config: { limits } })
    for (const id_token_hint of ['x', 'y']) {
      const { body } = await plain.ring('kiosk', { login_hint: '', id_token_hint })
      assert.equal(body.error, 'invalid_request')
    }
    assert.equal((await countRows(plain)).unknown_users, 0)
  })

  test('are counted outside development by default, with a limit that the operator can set for each client; the count expires', async (t) => {
    const issuer = 'https://id.example.com'
    const own = (client_id: string, unknownPerMinute: number) => ({
      client_id,
      client_secret: newSecret(),
      grant_types: [CIBA],
      backchannel_token_delivery_mode: 'poll' as const,
      limits: { perClient: { unknownPerMinute } },
    })
    const clients = [own('one', 1), own('free', 0)]
    const stage = await openStage(t, {
      config: { development: false, issuer, clients },
      northbank: 'https://n.example/n',
      till: 'https://t.example/n',
    })
    const guess = (client: (typeof clients)[number]) =>
      stage.post(
        '/backchannel/authorize',
        { scope: 'openid', login_hint: 'nobody' },
        basic(client.client_id, client.client_secret),
      )
    assert.equal((await guess(clients[0]!)).body.error, 'unknown_user_id')
    assertTooMuch(await guess(clients[0]!), 60)
    for (let number = 0; number < 40; number++) {
      assert.equal((await guess(clients[1]!)).body.error, 'unknown_user_id')
    }
    for (let number = 0; number < 30; number++) {
      assert.equal((await stage.ring('kiosk', { login_hint: 'nobody' })).body.error, 'unknown_user_id')
    }
    assertTooMuch(await stage.ring('kiosk', { login_hint: 'nobody' }), 60)
    await until(async () => {
      // The sweep removes expired counters once a minute.
      stage.clock.advance(minute)
      return (await countRows(stage)).unknown_users === 0
    })
  })
})

describe('password attempts (M30)', () => {
  const limits = { signIn: { perName: 3, perAddress: 100, pause: 30, longestPause: 100 } }

  async function trying(t: TestContext, config: ConfigInput = { limits }, ui_locales = 'en') {
    const stage = await openStage(t, { config })
    const { browser, page } = await startSignIn(stage, { ui_locales })
    const attempt = (name: string, password = 'wrong') => browser.submit(page, { name, password })
    return { stage, attempt }
  }

  test('are delayed after several failures, longer each time; the right password is delayed too', async (t) => {
    const { stage, attempt } = await trying(t)
    for (let number = 0; number < 3; number++) assert.equal((await attempt('ana')).status, 401)
    for (const [pause, says] of [
      [30, 'in 30 seconds'],
      [60, 'in 60 seconds'],
      [100, 'in 100 seconds'],
    ] as const) {
      const paused = await attempt('ana', ana.password)
      assert.equal(paused.status, 429)
      assert.equal(paused.headers.get('retry-after'), String(pause))
      assert.ok(paused.text.includes(`Too many attempts. Try again ${says}.`), paused.text)
      assert.ok(!paused.text.includes(ana.password))
      assert.equal((await attempt(' ANA ')).status, 429, 'however it is written')
      stage.clock.advance(pause * second)
      assert.equal((await attempt('ana')).status, 401)
    }
    stage.clock.advance(100 * second)
    assert.match((await attempt('ana', ana.password)).text, /Allow access/)
    assert.equal(auditOf(stage, 'sign_in.paused').length, 6)
    assert.equal(auditOf(stage, 'sign_in.failed').length, 6)
    assert.partialDeepStrictEqual(auditOf(stage, 'sign_in.succeeded'), [{ user: ana.id, by: 'password' }])
  })

  test('get the same answers for existing and for unknown names', async (t) => {
    const { attempt } = await trying(t)
    for (let number = 0; number < 5; number++) {
      const known = await attempt('ana')
      const unknown = await attempt('zoe')
      assert.equal(unknown.status, number < 3 ? 401 : 429)
      assert.deepEqual([known.status, known.text], [unknown.status, unknown.text.replace('zoe', 'ana')])
      assert.equal(known.headers.get('retry-after'), unknown.headers.get('retry-after'))
    }
  })

  test('delay that name only, and a success resets the count', async (t) => {
    const { attempt } = await trying(t)
    for (let number = 0; number < 3; number++) await attempt('ben')
    assert.equal((await attempt('ben')).status, 429)
    await attempt('ana')
    await attempt('ana')
    assert.match((await attempt('ana', ana.password)).text, /Allow access/)
  })

  test("from one address are delayed too, whichever names they use, even for the right password of the caller's own account", async (t) => {
    const own = { limits: { signIn: { perName: 100, perAddress: 4, pause: 30 } } }
    const { stage } = await trying(t, own)
    const attempt = async (name: string, password = 'wrong') => {
      const { browser, page } = await startSignIn(stage)
      return browser.submit(page, { name, password })
    }
    for (const name of ['a', 'b', 'c']) assert.equal((await attempt(name)).status, 401)
    // A successful sign-in is removed from the counter of the address. The failed attempts stay counted.
    assert.match((await attempt('ben', ben.password)).text, /Allow access/)
    assert.equal((await attempt('d')).status, 401)
    assert.equal((await attempt('e')).status, 429)
    assert.equal((await attempt('ben', ben.password)).status, 429)
    stage.clock.advance(30 * second)
    assert.match((await attempt('ben', ben.password)).text, /Allow access/)
    assert.equal((await attempt('f')).status, 401)
    assert.equal((await attempt('g')).headers.get('retry-after'), '60')
  })

  for (const engine of engines) {
    test(`of twenty at once no more are checked than one after the other would be, and a restart forgets nothing, on ${engine.name}`, async (t) => {
      const stage = await openStage(t, { engine, config: { limits } })
      const { browser, page } = await startSignIn(stage)
      const attempt = () => browser.submit(page, { name: 'ana', password: 'wrong' })
      const statuses = (await Promise.all(Array.from({ length: 20 }, attempt))).map(({ status }) => status)
      assert.equal(statuses.filter((status) => status === 401).length, 3)
      // A caller that finds the queue full is told to retry, before the server has checked whether there is a pause.
      assert.equal(statuses.filter((status) => status === 429 || status === 503).length, 17)
      await stage.restart()
      assert.equal((await attempt()).status, 429)
      const rows = await rowsOf(stage, 'select * from sign_in_attempts')
      assert.equal(rows.length, 4, 'address, network, name and user')
      const hashes = rows.map(({ subject_hash }) => String(subject_hash))
      assert.ok(
        hashes.every((hash) => /^[\w-]{43}$/.test(hash)),
        'neither the user nor the address',
      )
    })
  }

  const languages: [string, RegExp][] = [
    ['en', /Too many attempts\. Try again in 15 minutes\./],
    ['de', /Zu viele Versuche\. Versuchen Sie es in 15 Minuten erneut\./],
    ['es', /Demasiados intentos\. Inténtelo de nuevo dentro de 15 minutos\./],
    ['fr', /Trop de tentatives\. Réessayez dans 15 minutes\./],
    ['ja', /試行回数が多すぎます。15 分後にもう一度お試しください。/],
    ['pt-BR', /Muitas tentativas\. Tente novamente em 15 minutos\./],
  ]
  for (const [language, says] of languages) {
    test(`the page says when to try again, in ${language}`, async (t) => {
      const { attempt } = await trying(t, { limits: { signIn: { perName: 1, pause: 900 } } }, language)
      await attempt('ana')
      assert.match((await attempt('ana')).text, says)
    })
  }
})
