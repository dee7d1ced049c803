/** User codes: knowing a user's name is not enough to send that user a request (UC-1 to UC-6, M47, M48). */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import type { User } from '../../src/user/user.ts'
import { newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, ana, basic, ben, openStage } from '../support/stage.ts'
import { countRows, rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { assertRefused, cleo, code, minutes, openCodeStage, secret } from './user-codes.ts'

describe('a user with a code', () => {
  test('without it missing_user_code, with a wrong one invalid_user_code; only the right one is accepted (M47, UC-3)', async (t) => {
    const stage = await openCodeStage(t)
    assertRefused(await stage.askFor(undefined), 'missing_user_code')
    assertRefused(await stage.askFor(''), 'missing_user_code')
    for (const wrong of ['heron-4712', 'HERON-4711', ' heron-4711']) {
      assertRefused(await stage.askFor(wrong), 'invalid_user_code')
    }
    assert.equal((await stage.waiting()).length, 0)
    const { status, body } = await stage.askFor(code)
    assert.equal(status, 200)
    await stage.decide(await stage.newestRequest(), 'approved')
    const form = { grant_type: 'urn:openid:params:grant-type:ciba', auth_req_id: String(body.auth_req_id) }
    assert.ok((await stage.post('/oauth/token', form, basic('booth', secret))).body.id_token)
  })

  test('clients that do not use codes, and users without one, are exempt, whatever is sent (UC-2)', async (t) => {
    const stage = await openCodeStage(t)
    for (const parameters of [{}, { user_code: 'wrong' }])
      assert.equal((await stage.ring('kiosk', parameters)).status, 200)
    for (const sent of [undefined, 'anything']) assert.equal((await stage.askFor(sent, { about: 'ben' })).status, 200)
    assert.equal((await countRows(stage)).user_code_tries, 0)
  })

  test('in a signed request the code is a claim like any other (SR-1)', async (t) => {
    const key = await newKey('one')
    const signing = { jwks: { keys: [key.publicJwk] }, backchannel_authentication_request_signing_alg: 'ES256' }
    const bank = pollClient('bank', { client_secret: secret, backchannel_user_code_parameter: true, ...signing })
    const stage = await openCodeStage(t, { config: { clients: [bank] } })
    const sendRequest = async (claims: Record<string, unknown>, beside = {}) => {
      const request = await signedRequest(stage, 'bank', { key: key.privateKey, header: { kid: 'one' }, claims })
      return stage.post('/backchannel/authorize', { request, ...beside }, basic('bank', secret))
    }
    assertRefused(await sendRequest({}), 'missing_user_code')
    assertRefused(await sendRequest({ user_code: 'wrong' }), 'invalid_user_code')
    assertRefused(await sendRequest({}, { user_code: code }), 'invalid_request')
    assert.equal((await sendRequest({ user_code: code })).status, 200)
  })

  test('a malformed request does not reveal whether a code is right', async (t) => {
    const stage = await openCodeStage(t)
    for (const user_code of [code, 'wrong']) {
      const form = { scope: 'openid', login_hint: 'ana', user_code, requested_expiry: '0' }
      assertRefused(await stage.post('/backchannel/authorize', form, basic('booth', secret)), 'invalid_request')
    }
    assert.equal((await countRows(stage)).user_code_tries, 0)
  })

  test('the metadata announce codes, but not with hooks that verify none (UC-1)', async (t) => {
    const find = async () => ana
    const announced = async (users: ConfigInput['users']) => {
      const stage = await openStage(t, { config: { users } })
      return (await stage.get('/.well-known/openid-configuration')).body.backchannel_user_code_parameter_supported
    }
    assert.equal(await announced([ana]), true)
    assert.equal(await announced({ find, findByHint: find }), false)
    assert.equal(await announced({ find, findByHint: find, verifyUserCode: async () => true }), true)
  })
})

describe("an application's own users (M48)", () => {
  const own = (verify: (user: User, sent: string) => boolean, user: User = ana) => {
    const find = async () => user
    return { users: { find, findByHint: find, verifyUserCode: async (each: User, sent: string) => verify(each, sent) } }
  }

  test('the hook gets the user and the code exactly as sent', async (t) => {
    const heard: [string, string][] = []
    const config = own((user, sent) => heard.push([user.id, sent]) > 0 && sent === 'Ünï côdé 🛎')
    const stage = await openCodeStage(t, { config })
    assertRefused(await stage.askFor(undefined), 'missing_user_code')
    assertRefused(await stage.askFor('nope'), 'invalid_user_code')
    assert.equal((await stage.askFor('Ünï côdé 🛎')).status, 200)
    assert.deepEqual(heard, [
      ['user-ana', 'nope'],
      ['user-ana', 'Ünï côdé 🛎'],
    ])
  })

  test('for a user without a code, according to the application, neither the client nor the hook is asked', async (t) => {
    const stage = await openCodeStage(t, { config: own(() => assert.fail('asked'), { ...ana, has_user_code: false }) })
    assert.equal((await stage.askFor(undefined)).status, 200)
    assert.equal((await stage.askFor('anything')).status, 200)
  })

  test('there is no page and no address here to change a code', async (t) => {
    const stage = await openCodeStage(t, { config: own(() => true) })
    assert.equal((await stage.get('/backchannel/user-code')).status, 404)
    assert.equal((await stage.get('/user-code')).status, 404)
  })
})

for (const engine of engines) {
  describe(`lock-out, on ${engine.name} (UC-6)`, () => {
    test('of a client for one user: even the right code is refused until the time is over; other clients are not affected', async (t) => {
      const stage = await openCodeStage(t, { engine })
      for (let each = 0; each < 5; each++) assertRefused(await stage.askFor('wrong'), 'invalid_user_code')
      assertRefused(await stage.askFor(code), 'access_denied', 403)
      assertRefused(await stage.askFor('wrong'), 'access_denied', 403)
      assert.equal((await stage.askFor(cleo.user_code, { about: 'cleo' })).status, 200)
      assertRefused(await stage.askFor('wrong', { as: 'stand' }), 'invalid_user_code')
      assert.equal((await stage.askFor(code, { as: 'stand' })).status, 200, 'another client is not affected')
      assertRefused(await stage.askFor(undefined), 'missing_user_code')
      assert.equal((await stage.ring('kiosk')).status, 200)
      stage.clock.advance(15 * minutes - 100)
      assertRefused(await stage.askFor(code), 'access_denied', 403)
      stage.clock.advance(100)
      assert.equal((await stage.askFor(code)).status, 200)
    })

    test("a right code resets the user's wrong ones, and so does time", async (t) => {
      const stage = await openCodeStage(t, { engine })
      const fourWrong = async () => {
        for (let each = 0; each < 4; each++) assertRefused(await stage.askFor('wrong'), 'invalid_user_code')
      }
      await fourWrong()
      assert.equal((await stage.askFor(code)).status, 200)
      await fourWrong()
      stage.clock.advance(15 * minutes)
      await fourWrong()
      assert.equal((await stage.askFor(code)).status, 200)
    })

    test('of a client for all users: right codes reset nothing; other clients are not affected', async (t) => {
      const userCodes = { maxTriesPerClient: 3 }
      const clients = ['booth', 'stand'].map((id) =>
        pollClient(id, { client_secret: secret, backchannel_user_code_parameter: true }),
      )
      const stage = await openCodeStage(t, {
        engine,
        config: { users: [{ ...ana, user_code: code }, cleo], clients, userCodes },
      })
      assertRefused(await stage.askFor('wrong'), 'invalid_user_code')
      assertRefused(await stage.askFor('wrong', { about: 'cleo' }), 'invalid_user_code')
      assert.equal((await stage.askFor(code)).status, 200)
      assertRefused(await stage.askFor('wrong', { about: 'cleo' }), 'invalid_user_code')
      assertRefused(await stage.askFor(code), 'access_denied', 403)
      assert.equal((await stage.askFor(code, { as: 'stand' })).status, 200)
      const [row] = await rowsOf(stage, `select tries from user_code_tries where counter = 'pair ["booth","user-ana"]'`)
      assert.equal(row, undefined, 'while it is locked out, its attempts are not counted')
      stage.clock.advance(15 * minutes)
      assert.equal((await stage.askFor(code)).status, 200)
    })

    test('counts the attempts with every hint of a user together', async (t) => {
      const stage = await openCodeStage(t, { engine })
      const hints = [
        'ana',
        ana.email,
        'ANA@EXAMPLE.COM',
        ana.phone_number,
        '+34 600-000-001',
        'tel:+34600000001',
        JSON.stringify({ format: 'email', email: ana.email }),
        JSON.stringify({ format: 'phone_number', phone_number: ana.phone_number }),
      ]
      for (const about of hints.slice(0, 5)) assertRefused(await stage.askFor('wrong', { about }), 'invalid_user_code')
      for (const about of hints) assertRefused(await stage.askFor(code, { about }), 'access_denied', 403)
      stage.clock.advance(15 * minutes)
      for (const about of hints) assert.equal((await stage.askFor(code, { about })).status, 200, about)
    })

    test('of many wrong codes at once only the allowed number is checked, and all of those are counted', async (t) => {
      const stage = await openCodeStage(t, { engine })
      // The queue accepts eight calls of a client.
      const answers = await Promise.all(Array.from({ length: 20 }, () => stage.askFor('wrong')))
      const heard = Map.groupBy(answers, ({ body }) => body.error)
      assert.equal(heard.get('invalid_user_code')?.length, 5)
      assert.ok(heard.get('access_denied')!.length >= 3)
      assert.deepEqual(
        new Set(heard.keys()),
        new Set(['invalid_user_code', 'access_denied', 'temporarily_unavailable']),
      )
      const counted = await rowsOf(stage, 'select counter, tries from user_code_tries order by counter')
      assert.deepEqual(counted, [
        { counter: 'client booth', tries: 5 },
        { counter: 'pair ["booth","user-ana"]', tries: 5 },
        { counter: 'user user-ana', tries: 5 },
      ])
      assertRefused(await stage.askFor(code), 'access_denied', 403)
    })

    test('of a client that tries many users at once: it gets no more results than one after the other', async (t) => {
      const crowd = Array.from({ length: 8 }, (_, each) => ({
        id: `user-${each}`,
        username: `u${each}`,
        user_code: code,
      }))
      const clients = [pollClient('booth', { client_secret: secret, backchannel_user_code_parameter: true })]
      const config = { users: crowd, clients, userCodes: { maxTriesPerClient: 3 } }
      const stage = await openCodeStage(t, { engine, config })
      const wrong = await Promise.all(crowd.map(({ username }) => stage.askFor('wrong', { about: username })))
      assert.equal(wrong.filter(({ body }) => body.error === 'invalid_user_code').length, 3)
      assert.equal(wrong.filter(({ body }) => body.error === 'access_denied').length, 5)
      stage.clock.advance(15 * minutes)
      // Right codes among them have no effect once the client is locked out, like right codes that are sent later.
      const mixed = await Promise.all(
        crowd.map(({ username }, each) => stage.askFor(each < 7 ? 'wrong' : code, { about: username })),
      )
      assert.equal(mixed.filter(({ body }) => body.error === 'invalid_user_code').length, 3)
      assertRefused(await stage.askFor(code, { about: 'u7' }), 'access_denied', 403)
    })

    test('attempts are deleted an hour after they no longer count', async (t) => {
      const stage = await openCodeStage(t, { engine })
      await stage.askFor('wrong')
      assert.equal((await countRows(stage)).user_code_tries, 3)
      stage.clock.advance(75 * minutes)
      await until(async () => (await countRows(stage)).user_code_tries === 0)
    })
  })

  describe(`codes tried by many clients, on ${engine.name}`, () => {
    /** The booth, and thirty clients of one attacker, as any caller can register where registration is open. */
    async function openCrowd(t: TestContext) {
      const otherClients = Array.from({ length: 30 }, (_, number) => `other-client-${number}`)
      const clients = ['booth', 'stand', ...otherClients].map((id) =>
        pollClient(id, { client_secret: secret, backchannel_user_code_parameter: true }),
      )
      const config = { clients, users: [{ ...ana, user_code: code }, ben, cleo] }
      return { stage: await openCodeStage(t, { engine, config }), otherClients }
    }

    const count = (answers: Answer[], error: string) => answers.filter(({ body }) => body.error === error).length

    test('twenty wrong ones of thirty clients are answered; then unknown clients wait, and a client that the user approved goes on', async (t) => {
      const { stage, otherClients } = await openCrowd(t)
      await stage.askFor(code)
      await stage.decide(await stage.newestRequest(), 'approved')

      const answers = await Promise.all(otherClients.map((as) => stage.askFor('wrong', { as })))
      assert.deepEqual([count(answers, 'invalid_user_code'), count(answers, 'access_denied')], [20, 10])
      assertRefused(await stage.askFor(code, { as: 'stand' }), 'access_denied', 403)
      assert.equal((await stage.askFor(cleo.user_code, { about: 'cleo', as: 'stand' })).status, 200)

      for (let each = 0; each < 4; each++) assertRefused(await stage.askFor('wrong'), 'invalid_user_code')
      assert.equal((await stage.askFor(code)).status, 200, 'the client that the user has approved')
      for (let each = 0; each < 5; each++) assertRefused(await stage.askFor('wrong'), 'invalid_user_code')
      assertRefused(await stage.askFor(code), 'access_denied', 403)
      stage.clock.advance(15 * minutes)
      for (const as of ['booth', 'stand']) assert.equal((await stage.askFor(code, { as })).status, 200)
    })

    test('a single client never reaches the limit that all share', async (t) => {
      const { stage } = await openCrowd(t)
      for (let round = 0; round < 6; round++) {
        const answers = await Promise.all(
          Array.from({ length: 7 }, () => stage.askFor('wrong', { as: 'other-client-0' })),
        )
        assert.equal(count(answers, 'invalid_user_code'), 5)
        assert.equal((await stage.askFor(code, { as: 'stand' })).status, 200)
        stage.clock.advance(15 * minutes)
      }
    })

    test('a right code resets the counters of its own client only', async (t) => {
      const { stage, otherClients } = await openCrowd(t)
      for (let each = 0; each < 5; each++) await stage.askFor('wrong', { as: 'other-client-0' })
      assert.equal((await stage.askFor(code, { as: 'stand' })).status, 200)
      assertRefused(await stage.askFor(code, { as: 'other-client-0' }), 'access_denied', 403)
      await Promise.all(otherClients.slice(1).map((as) => stage.askFor('wrong', { as })))
      const [all] = await rowsOf(stage, "select tries from user_code_tries where counter = 'user user-ana'")
      assert.equal(Number(all!.tries), 20)
    })
  })

  describe(`a user's own code, on ${engine.name} (UC-5)`, () => {
    test('is set, required, changed and removed; the configured one does not come back', async (t) => {
      const stage = await openCodeStage(t, { engine })
      const authorization = await bearerOf(stage)
      const change = (path: string, fields: Record<string, string>) =>
        stage.post(`/backchannel/user-code${path}`, fields, authorization)
      const look = async () => (await stage.get('/backchannel/user-code', { authorization })).body

      assert.deepEqual(await look(), { set: true, present_code_needed: false })
      assert.equal((await change('', { user_code: 'pelican-1' })).status, 200)
      assert.deepEqual(await look(), {
        set: true,
        set_at: Math.floor(stage.clock.now() / 1000),
        present_code_needed: false,
      })
      assertRefused(await stage.askFor(code), 'invalid_user_code')
      assert.equal((await stage.askFor('pelican-1')).status, 200)
      await stage.restart()
      assert.equal((await stage.askFor('pelican-1')).status, 200)
      assert.equal((await change('/remove', {})).status, 200)
      assert.deepEqual(await look(), { set: false, present_code_needed: false })
      assert.equal((await stage.askFor(undefined)).status, 200)

      const [row] = await rowsOf(stage, "select * from user_codes where user_id = 'user-ana'")
      assert.equal(row?.hash, null)
    })

    test('some time after the sign-in its change needs the current code, and wrong ones count as usual', async (t) => {
      const stage = await openCodeStage(t, { engine })
      const authorization = await bearerOf(stage)
      const set = (fields: Record<string, string>) => stage.post('/backchannel/user-code', fields, authorization)
      stage.clock.advance(6 * minutes)
      const { body } = await stage.get('/backchannel/user-code', { authorization })
      assert.equal(body.present_code_needed, true)

      const bare = await set({ user_code: 'pelican-1' })
      assertRefused(bare, 'access_denied', 403)
      assert.equal(bare.body.proof_needed, true)
      assert.equal((await set({ user_code: 'pelican-1', present_code: code })).status, 200)
      assert.equal((await set({ user_code: 'pelican-2', present_code: 'pelican-1' })).status, 200)
      for (let each = 0; each < 5; each++) {
        assertRefused(await set({ user_code: 'pelican-3', present_code: code }), 'invalid_user_code')
      }
      const locked = await set({ user_code: 'pelican-3', present_code: 'pelican-2' })
      assertRefused(locked, 'access_denied', 403)
      assert.equal(locked.body.locked, true)
      assert.equal((await stage.askFor('pelican-2')).status, 200, 'clients are counted separately')
      // After a new sign-in the user sets a new code, and attempts at the old one no longer count.
      const again = await bearerOf(stage)
      // oidc-provider uses the real time for the sign-in. The stage is ahead of it, so the clock of the stage is set
      // back.
      stage.clock.advance(-5 * minutes)
      assert.equal((await stage.post('/backchannel/user-code', { user_code: 'pelican-4' }, again)).status, 200)
      assert.equal((await stage.askFor('pelican-4')).status, 200)
    })

    test('some time after the sign-in, a first code cannot be set', async (t) => {
      const stage = await openCodeStage(t, { engine })
      const authorization = await bearerOf(stage, ben)
      stage.clock.advance(6 * minutes)
      for (const present_code of ['', 'anything', code]) {
        const fields = { user_code: 'pelican-1', present_code }
        assertRefused(await stage.post('/backchannel/user-code', fields, authorization), 'access_denied', 403)
      }
      assert.equal((await countRows(stage)).user_codes, 0)
    })

    test('of two changes at once that prove the same code, one takes effect', async (t) => {
      const stage = await openCodeStage(t, { engine })
      const authorization = await bearerOf(stage)
      await stage.post('/backchannel/user-code', { user_code: 'pelican-0' }, authorization)
      stage.clock.advance(6 * minutes)
      const changed = await Promise.all(
        ['pelican-1', 'pelican-2', 'pelican-3'].map((user_code) =>
          stage.post('/backchannel/user-code', { user_code, present_code: 'pelican-0' }, authorization),
        ),
      )
      assert.equal(changed.filter(({ status }) => status === 200).length, 1, changed.map(({ text }) => text).join())
    })
  })
}
