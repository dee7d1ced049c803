/** Who asks too much, too often, or where they are not wanted: nothing of it reaches the user (CD-4, CD-5, M30, M31). */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { checkConfig } from '../../src/config/check.ts'
import type { CheckedConfig, ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import type { UserHooks } from '../../src/user/user.ts'
import { auditOf } from '../cast/audit.ts'
import { engines } from '../cast/engines.ts'
import { openNotificationEndpoint } from '../cast/notification-endpoint.ts'
import { bearerOf, startSignIn } from '../cast/phone-app.ts'
import {
  type Answer,
  ana,
  basic,
  ben,
  CIBA,
  credentials,
  openStage,
  type RingingClient,
  type Stage,
} from '../cast/stage.ts'
import { countRows, rowsOf } from '../cast/tables.ts'
import { until } from '../cast/until.ts'
import { formTokenOn, openVisitor } from '../cast/visitor.ts'

const second = 1_000
const minute = 60_000

/** Rings so often at the same moment, the clients taking turns. */
function ringAtOnce(stage: Stage, times: number, who: RingingClient[], about = ['ana']): Promise<Answer[]> {
  const numbers = Array.from({ length: times }, (_, number) => number)
  return Promise.all(
    numbers.map((number) =>
      stage.ring(who[number % who.length]!, { login_hint: about[Math.floor(number / who.length) % about.length]! }),
    ),
  )
}

/** The settings that a configuration makes. */
function checkedFor(input: Record<string, unknown>): CheckedConfig {
  const checked = checkConfig(input)
  return 'config' in checked ? checked.config : assert.fail(checked.problems.join())
}

function assertTooMuch({ status, body, headers, text }: Answer, retryAfter?: number): void {
  assert.deepEqual([status, body.error], [429, 'access_denied'], text)
  const seconds = Number(headers.get('retry-after'))
  if (retryAfter === undefined) assert.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60, String(seconds))
  else assert.equal(seconds, retryAfter)
}

const limited: [string, ConfigInput['limits'], RingingClient[], string[]][] = [
  ['perUser.perMinute', { perUser: { perMinute: 3 } }, ['kiosk', 'northbank'], ['ana']],
  ['perClientAndUser.open', { perClientAndUser: { open: 3 } }, ['kiosk'], ['ana']],
  ['perClientAndUser.perMinute', { perClientAndUser: { perMinute: 3 } }, ['kiosk'], ['ana']],
  ['perClient.open', { perClient: { open: 3 } }, ['kiosk'], ['ana', 'ben']],
  ['perClient.perMinute', { perClient: { perMinute: 3 } }, ['kiosk'], ['ana', 'ben']],
]

for (const engine of engines) {
  describe(`M31, CD-4: of twenty requests at once, on ${engine.name},`, () => {
    for (const [name, limits, who, about] of limited) {
      test(`three are accepted under ${name}; of the others nobody hears, and the client knows when to come again`, async (t) => {
        const stage = await openStage(t, { engine, config: { limits } })
        const answers = await ringAtOnce(stage, 20, who, about)
        assert.equal(answers.filter(({ status }) => status === 200).length, 3)
        for (const answer of answers.filter(({ status }) => status !== 200)) assertTooMuch(answer)

        const waiting = [...(await stage.waiting('ana')), ...(await stage.waiting('ben'))]
        assert.equal(waiting.length, 3)
        const { backchannel_auth_requests, notifications } = await countRows(stage)
        assert.deepEqual([backchannel_auth_requests, notifications], [3, 3], 'one notice each, and no row besides')
        const reached = auditOf(stage, 'limit.reached')
        assert.equal(reached.length, 17)
        assert.ok(reached.every(({ outcome, user, client }) => outcome === name && user && client))
        assert.equal(auditOf(stage, 'request.refused').length, 17)
      })
    }

    test('one client fills two of a user’s five places as it is outside development, for a day or not', async (t) => {
      const { limits } = checkedFor({ issuer: 'https://id.example.com', secret: newSecret(32) })
      const stage = await openStage(t, { engine, config: { limits, requests: { maxOpenPerUser: 5 } } })
      const day = { requested_expiry: '86400' }
      const answers = await Promise.all(Array.from({ length: 5 }, () => stage.ring('kiosk', day)))
      assert.equal(answers.filter(({ status }) => status === 200).length, 2)
      stage.clock.advance(2 * minute)
      assertTooMuch(await stage.ring('kiosk', day), 60)
      for (const as of ['northbank', 'till', 'till'] as const) assert.equal((await stage.ring(as, day)).status, 200)
    })

    test('a pause after a denial holds up all of them, and so does a block', async (t) => {
      const stage = await openStage(t, { engine, config: { limits: { pauseAfterDenial: { first: 30 } } } })
      await stage.ring('kiosk')
      await stage.decide(await stage.newestRequest(), 'denied')
      for (const answer of await ringAtOnce(stage, 20, ['kiosk'])) assertTooMuch(answer, 30)
      await stage.ring('northbank')
      await stage.decide(await stage.newestRequest(), 'denied', { report: 'true' })
      for (const { status, body } of await ringAtOnce(stage, 20, ['northbank'])) {
        assert.deepEqual([status, body.error], [403, 'access_denied'])
      }
      assert.equal((await countRows(stage)).backchannel_auth_requests, 2)
    })
  })
}

describe('a limit', () => {
  test('of a minute: Retry-After says when the first of them is a minute old, and then there is room for one', async (t) => {
    const stage = await openStage(t, { config: { limits: { perUser: { perMinute: 2 } } } })
    assert.equal((await stage.ring('kiosk')).status, 200)
    stage.clock.advance(20 * second)
    assert.equal((await stage.ring('northbank')).status, 200)
    assertTooMuch(await stage.ring('kiosk'), 40)
    assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200, 'Ben is not concerned')
    stage.clock.advance(40 * second)
    assert.equal((await stage.ring('kiosk')).status, 200)
    assertTooMuch(await stage.ring('kiosk'), 20)
  })

  test('of what is open: a decision makes room at once', async (t) => {
    const stage = await openStage(t, { config: { limits: { perClientAndUser: { open: 1 } } } })
    await stage.ring('kiosk', { requested_expiry: '20' })
    assertTooMuch(await stage.ring('kiosk'), 20)
    assert.equal((await stage.ring('northbank')).status, 200, 'another client is not concerned')
    stage.clock.advance(20 * second)
    assert.equal((await stage.ring('kiosk')).status, 200)
    assertTooMuch(await stage.ring('kiosk'), 60)
    await stage.decide(await stage.newestRequest(), 'approved')
    assert.equal((await stage.ring('kiosk')).status, 200)
  })

  test('of what waits for a user stays CIBA’s own refusal, under both its names (AE-1)', async (t) => {
    for (const config of [{ requests: { maxOpenPerUser: 1 } }, { limits: { perUser: { open: 1 } } }] as ConfigInput[]) {
      const stage = await openStage(t, {
        config: { ...config, requests: { maxOpenPerUser: undefined, ...config.requests } },
      })
      await stage.ring('kiosk')
      const { status, body, headers } = await stage.ring('northbank')
      assert.deepEqual([status, body.error, headers.get('retry-after')], [403, 'access_denied', null])
      assert.equal(auditOf(stage, 'limit.reached')[0]!.outcome, 'perUser.open')
    }
  })

  test('of its own a client has from the operator, and from nobody else', async (t) => {
    const client_secret = newSecret()
    const own = {
      client_id: 'own',
      client_secret,
      grant_types: [CIBA],
      backchannel_token_delivery_mode: 'poll' as const,
    }
    const stage = await openStage(t, {
      config: {
        registration: { mode: 'open' },
        limits: { perClient: { perMinute: 1 }, perClientAndUser: { perMinute: 1 } },
        clients: [{ ...own, limits: { perClient: { perMinute: 0 }, perClientAndUser: { perMinute: 2 } } }],
      },
    })
    const ring = (login_hint: string) =>
      stage.post('/backchannel/authorize', { scope: 'openid', login_hint }, basic('own', client_secret))
    for (const login_hint of ['ana', 'ana', 'ben', 'ben']) assert.equal((await ring(login_hint)).status, 200)
    assertTooMuch(await ring('ana'))
    assert.equal((await stage.ring('kiosk')).status, 200)
    assertTooMuch(await stage.ring('kiosk', { login_hint: 'ben' }))

    const wanted = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll', limits: { perClient: { open: 9 } } }
    const registered = await fetch(`${stage.url}/oauth/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(wanted),
    })
    assert.equal(registered.status, 400)
    assert.match(await registered.text(), /limits is given by the operator only/)
  })
})

describe('who was denied', () => {
  const limits = { pauseAfterDenial: { first: 30, longest: 100 } }
  async function denied(stage: Stage): Promise<void> {
    assert.equal((await stage.ring('kiosk')).status, 200)
    await stage.decide(await stage.newestRequest(), 'denied')
  }

  test('waits before asking that user again, twice as long each time up to the longest, until an approval', async (t) => {
    const stage = await openStage(t, { config: { limits } })
    for (const pause of [30, 60, 100, 100]) {
      await denied(stage)
      assertTooMuch(await stage.ring('kiosk'), pause)
      assert.equal((await stage.ring('northbank')).status, 200, 'another client may ask')
      assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200, 'and it may ask Ben')
      // The refused one above came a few milliseconds after the denial.
      stage.clock.advance(pause * second - 10)
      assertTooMuch(await stage.ring('kiosk'), 1)
      stage.clock.advance(10)
    }
    assert.equal((await stage.ring('kiosk')).status, 200)
    await stage.decide(await stage.newestRequest(), 'approved')
    await denied(stage)
    assertTooMuch(await stage.ring('kiosk'), 30)
    const refused = auditOf(stage, 'limit.reached')
    assert.ok(refused.every(({ outcome }) => outcome === 'pauseAfterDenial'))
  })

  test('still waits after a restart, and is forgiven a day later', async (t) => {
    const stage = await openStage(t, { config: { limits } })
    await denied(stage)
    await stage.restart()
    assertTooMuch(await stage.ring('kiosk'), 30)
    assert.equal((await countRows(stage)).denial_pauses, 1)
    stage.clock.advance(24 * 60 * minute + 31 * second)
    await until(async () => {
      // The sweep forgets by itself, a minute after it last did.
      stage.clock.advance(minute)
      return (await countRows(stage)).denial_pauses === 0
    })
  })

  test('does not wait where the setting says so', async (t) => {
    const stage = await openStage(t, { config: { limits: { pauseAfterDenial: { first: 0 } } } })
    await denied(stage)
    await denied(stage)
  })

  test('and reported is blocked, until the user lets it in again (CD-5)', async (t) => {
    const stage = await openStage(t, { config: { limits } })
    await stage.ring('kiosk')
    const requestId = await stage.newestRequest()
    await stage.decide(requestId, 'denied', { report: 'true' })
    const about = { request: requestId, client: 'kiosk', user: ana.id }
    const [reported] = auditOf(stage, 'request.reported')
    assert.partialDeepStrictEqual(reported!, { ...about, by: 'device_service', about: 'phone-service', level: 40 })
    assert.partialDeepStrictEqual(auditOf(stage, 'client.blocked'), [{ ...about, by: 'report' }])

    const before = await countRows(stage)
    const { status, body } = await stage.ring('kiosk')
    assert.deepEqual([status, body.error], [403, 'access_denied'])
    assert.deepEqual(await countRows(stage), before)
    assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200, 'Ben has not reported anybody')
    assert.equal((await stage.ring('northbank')).status, 200)

    const bearer = await bearerOf(stage)
    await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'false' }, bearer)
    assert.equal((await stage.ring('kiosk')).status, 200, 'at once: the pause is over with the block')
    await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'true' }, bearer)
    assert.equal((await stage.ring('kiosk')).status, 403)
    const unblocked = auditOf(stage, 'client.unblocked')
    assert.partialDeepStrictEqual(unblocked, [{ client: 'kiosk', user: ana.id, address: '127.0.0.1' }])
  })

  test('by the clock alone does not wait, where there was time to answer', async (t) => {
    const stage = await openStage(t, { config: { limits } })
    await stage.ring('kiosk', { requested_expiry: '60' })
    stage.clock.advance(60 * second)
    await stage.doorbell.sweep()
    assert.equal((await stage.ring('kiosk')).status, 200)
  })
})

for (const engine of engines) {
  describe(`M30: a client that names people to find out who is there, on ${engine.name},`, () => {
    const limits = { perClient: { unknownPerMinute: 3 } }

    test('of twenty names at once hears of three that nobody is there, and of the others that it is too much', async (t) => {
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

    test('then hears the same of those who are there, even with a wrong user code, until the minute is over', async (t) => {
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
      assert.equal((await stage.ring('kiosk')).status, 200, 'another client is not concerned')
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

describe('names of nobody', () => {
  test('are counted neither where the client is not told of them, nor for a hint that is wrong in itself', async (t) => {
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

  test('are counted outside development unless told otherwise, by client if the operator says so, and forgotten', async (t) => {
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
      // The sweep forgets by itself, a minute after it last did.
      stage.clock.advance(minute)
      return (await countRows(stage)).unknown_users === 0
    })
  })
})

/** Users of an application, of whom Ana can be locked at any time. */
async function openWithLock(t: TestContext, engine = engines[0]!, till?: string) {
  let disabled = false
  const { password, ...known } = ana
  let disabledAfterLook = false
  const find = async (id: string) => {
    const seen = id === ana.id ? { ...known, disabled } : null
    disabled ||= disabledAfterLook
    disabledAfterLook = false
    return seen
  }
  const users: UserHooks = {
    find,
    findByHint: async ({ value }) => (value === ana.username || value === ana.email ? find(ana.id) : null),
    verifyPassword: async (_user, given) => given === password,
  }
  const stage = await openStage(t, { engine, config: { users }, ...(till !== undefined && { till }) })
  const lock = (locked = true) => {
    disabled = locked
  }
  const lockAfterNextLook = () => {
    disabledAfterLook = true
  }
  return { stage, lock, lockAfterNextLook }
}

for (const engine of engines) {
  describe(`M15: Ana is locked, on ${engine.name},`, () => {
    test('before the request: it is refused', async (t) => {
      const { stage, lock } = await openWithLock(t, engine)
      lock()
      assert.deepEqual((await stage.ring('kiosk')).body.error, 'unknown_user_id')
      assert.equal((await countRows(stage)).backchannel_auth_requests, 0)
    })

    type Decider = (stage: Stage, rung: { requestId: string; authReqId: string }) => Promise<() => Promise<number>>
    /** How each way of deciding says no; what has to be done before the lock is done first. */
    const ways: [string, number, Decider][] = [
      [
        'through the device service',
        400,
        async (stage, { requestId }) =>
          async () =>
            (await stage.decide(requestId, 'approved')).status,
      ],
      [
        'with a token of her own',
        401,
        async (stage, { requestId }) => {
          const bearer = await bearerOf(stage)
          const form = { request_id: requestId, status: 'approved' }
          return async () => (await stage.post('/backchannel/complete', form, bearer)).status
        },
      ],
      [
        'in the consent app',
        401,
        async (stage, { requestId }) => {
          const visitor = openVisitor(stage.url)
          const form_token = formTokenOn(await visitor.signIn(ana, `/approve/${requestId}`))
          return async () => (await visitor.post(`/approve/${requestId}`, { decision: 'approve', form_token })).status
        },
      ],
      [
        "through the application's own code",
        0,
        async (stage, { requestId }) =>
          async () => {
            const yes = await stage.doorbell.requests.approve(requestId, ana.id)
            const no = await stage.doorbell.requests.deny(requestId, ana.id)
            assert.deepEqual([yes, no], [{ kind: 'user unavailable' }, { kind: 'user unavailable' }])
            return 0
          },
      ],
      [
        'with the aid for development',
        403,
        async (stage, { authReqId }) =>
          async () =>
            (await stage.post(`/dev/decide?action=allow&auth_req_id=${authReqId}`, {})).status,
      ],
    ]
    for (const [name, status, prepare] of ways) {
      test(`before the decision ${name}: it is refused, and the request goes on waiting`, async (t) => {
        const { stage, lock } = await openWithLock(t, engine)
        const authReqId = String((await stage.ring('kiosk')).body.auth_req_id)
        const requestId = await stage.newestRequest()
        const decide = await prepare(stage, { requestId, authReqId })
        lock()
        assert.equal(await decide(), status)
        assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'authorization_pending')
        assert.equal((await countRows(stage)).backchannel_auth_consent_history, 0)
        lock(false)
        assert.equal((await stage.decide(requestId, 'approved')).status, 200, 'nothing is lost')
      })
    }

    test('before the redemption: no tokens; once she is back they can be collected', async (t) => {
      const { stage, lock } = await openWithLock(t, engine)
      const authReqId = (await stage.ring('kiosk')).body.auth_req_id
      await stage.decide(await stage.newestRequest(), 'approved')
      lock()
      assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'access_denied')
      assert.deepEqual(await rowsOf(stage, 'select * from oidc_models'), [])
      assert.partialDeepStrictEqual(auditOf(stage, 'tokens.'), [{ event: 'tokens.refused', user: ana.id, by: 'poll' }])
      lock(false)
      assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
    })

    test('before the push: it says that there are none, and that stands', async (t) => {
      const till = await openNotificationEndpoint(t)
      till.behaves(500, 204)
      const { stage, lock, lockAfterNextLook } = await openWithLock(t, engine, till.url)
      await stage.ring('till')
      const requestId = await stage.newestRequest()
      await stage.doorbell.idle()
      // The worker is quick: she is locked as soon as it has been looked whether she may decide.
      lockAfterNextLook()
      assert.equal((await stage.doorbell.requests.approve(requestId, ana.id)).kind, 'settled')
      await till.hears(1)
      await stage.doorbell.idle()
      lock(false)
      stage.clock.advance(5 * second)
      const bodies = (await till.hears(2)).map(({ body }) => body.error)
      assert.deepEqual(bodies, ['transaction_failed', 'transaction_failed'])
      assert.partialDeepStrictEqual(auditOf(stage, 'tokens.'), [{ event: 'tokens.refused', user: ana.id, by: 'push' }])
      assert.deepEqual(await rowsOf(stage, 'select * from oidc_models'), [])
    })

    test('after it: what was issued is not refreshed, and tells nothing more', async (t) => {
      const { stage, lock } = await openWithLock(t, engine)
      const authReqId = (await stage.ring('kiosk', { scope: 'openid email offline_access' })).body.auth_req_id
      await stage.decide(await stage.newestRequest(), 'approved')
      const tokens = (await stage.poll('kiosk', authReqId)).body
      lock()
      const refresh = { grant_type: 'refresh_token', refresh_token: String(tokens.refresh_token) }
      assert.equal((await stage.post('/oauth/token', refresh, credentials.kiosk)).body.error, 'invalid_grant')
      const asked = await stage.get('/oauth/userinfo', { authorization: `Bearer ${tokens.access_token}` })
      assert.equal(asked.status, 401)
    })
  })
}

describe('M30: whoever tries passwords', () => {
  const limits = { signIn: { perName: 3, perAddress: 100, pause: 30, longestPause: 100 } }

  async function trying(t: TestContext, config: ConfigInput = { limits }, ui_locales = 'en') {
    const stage = await openStage(t, { config })
    const { browser, page } = await startSignIn(stage, { ui_locales })
    const attempt = (name: string, password = 'wrong') => browser.submit(page, { name, password })
    return { stage, attempt }
  }

  test('waits after so many that failed, longer each time; the right password waits too', async (t) => {
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

  test('hears the same of names that exist and names that do not, word by word', async (t) => {
    const { attempt } = await trying(t)
    for (let number = 0; number < 5; number++) {
      const known = await attempt('ana')
      const unknown = await attempt('zoe')
      assert.equal(unknown.status, number < 3 ? 401 : 429)
      assert.deepEqual([known.status, known.text], [unknown.status, unknown.text.replace('zoe', 'ana')])
      assert.equal(known.headers.get('retry-after'), unknown.headers.get('retry-after'))
    }
  })

  test('holds up that name only, and a success starts anew', async (t) => {
    const { attempt } = await trying(t)
    for (let number = 0; number < 3; number++) await attempt('ben')
    assert.equal((await attempt('ben')).status, 429)
    await attempt('ana')
    await attempt('ana')
    assert.match((await attempt('ana', ana.password)).text, /Allow access/)
  })

  test('from one address waits too, whatever names they try, and whoever they are themselves', async (t) => {
    const own = { limits: { signIn: { perName: 100, perAddress: 4, pause: 30 } } }
    const { stage } = await trying(t, own)
    const attempt = async (name: string, password = 'wrong') => {
      const { browser, page } = await startSignIn(stage)
      return browser.submit(page, { name, password })
    }
    for (const name of ['a', 'b', 'c']) assert.equal((await attempt(name)).status, 401)
    // Signing in with an account of one's own gives back nothing but that attempt.
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
    test(`of twenty at once no more are looked at than one after the other, and a restart forgets nothing, on ${engine.name}`, async (t) => {
      const stage = await openStage(t, { engine, config: { limits } })
      const { browser, page } = await startSignIn(stage)
      const attempt = () => browser.submit(page, { name: 'ana', password: 'wrong' })
      const statuses = (await Promise.all(Array.from({ length: 20 }, attempt))).map(({ status }) => status)
      assert.equal(statuses.filter((status) => status === 401).length, 3)
      // Who comes while all places are taken is told to come again, before it is known that there is a pause.
      assert.equal(statuses.filter((status) => status === 429 || status === 503).length, 17)
      await stage.restart()
      assert.equal((await attempt()).status, 429)
      const rows = await rowsOf(stage, 'select * from sign_in_attempts')
      assert.equal(rows.length, 4, 'address, network, name and user')
      const hashes = rows.map(({ subject_hash }) => String(subject_hash))
      assert.ok(
        hashes.every((hash) => /^[\w-]{43}$/.test(hash)),
        'neither who nor from where',
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
    test(`reads when to try again, in ${language}`, async (t) => {
      const { attempt } = await trying(t, { limits: { signIn: { perName: 1, pause: 900 } } }, language)
      await attempt('ana')
      assert.match((await attempt('ana')).text, says)
    })
  }
})

describe('pages that listen for news', () => {
  async function listening(t: TestContext, streams: { perSession?: number; inAll?: number }) {
    const stage = await openStage(t, { config: { limits: { streams } } })
    const listen = async (visitor: { jar: Map<string, string> }) => {
      const cookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
      const stop = new AbortController()
      const response = await fetch(`${stage.url}/events`, { headers: { cookie }, signal: stop.signal })
      return { response, stop: () => stop.abort() }
    }
    const [anas, bens] = [openVisitor(stage.url), openVisitor(stage.url)]
    await anas.signIn(ana)
    await bens.signIn(ben)
    return { listen, anas, bens }
  }

  test('are so many of one session; a page that is closed makes room', async (t) => {
    const { listen, anas, bens } = await listening(t, { perSession: 2 })
    const streams = [await listen(anas), await listen(anas)]
    assert.deepEqual(
      streams.map(({ response }) => response.status),
      [200, 200],
    )
    const { response } = await listen(anas)
    assert.deepEqual([response.status, response.headers.get('retry-after')], [429, '30'])
    assert.equal((await listen(bens)).response.status, 200, 'of another session others')
    streams[0]!.stop()
    let again = await listen(anas)
    for (let look = 0; again.response.status === 429 && look < 200; look++) again = await listen(anas)
    assert.equal(again.response.status, 200)
  })

  test('and so many in all', async (t) => {
    const { listen, anas, bens } = await listening(t, { perSession: 2, inAll: 2 })
    assert.equal((await listen(anas)).response.status, 200)
    assert.equal((await listen(bens)).response.status, 200)
    assert.equal((await listen(bens)).response.status, 429)
  })
})
