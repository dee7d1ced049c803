/** Limits on authentication requests. A request that a limit refuses never reaches the user (CD-4, CD-5, M30, M31). */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { checkConfig } from '../../src/config/check.ts'
import type { CheckedConfig, ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { auditOf } from '../support/audit.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { type Answer, ana, basic, ben, CIBA, openStage, type RingingClient, type Stage } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { openVisitor } from '../support/visitor.ts'
import { assertTooMuch, minute, second } from './limited-requests.ts'

const limited: [string, ConfigInput['limits'], RingingClient[], string[]][] = [
  ['perUser.perMinute', { perUser: { perMinute: 3 } }, ['kiosk', 'northbank'], ['ana']],
  ['perClientAndUser.open', { perClientAndUser: { open: 3 } }, ['kiosk'], ['ana']],
  ['perClientAndUser.perMinute', { perClientAndUser: { perMinute: 3 } }, ['kiosk'], ['ana']],
  ['perClient.open', { perClient: { open: 3 } }, ['kiosk'], ['ana', 'ben']],
  ['perClient.perMinute', { perClient: { perMinute: 3 } }, ['kiosk'], ['ana', 'ben']],
]

for (const engine of engines) {
  describe(`of twenty requests at once, on ${engine.name} (M31, CD-4)`, () => {
    for (const [name, limits, who, about] of limited) {
      test(`three are accepted under ${name}; the others reach no user, and the client is told when to retry`, async (t) => {
        const stage = await openStage(t, { engine, config: { limits } })
        const answers = await ringAtOnce(stage, 20, who, about)
        assert.equal(answers.filter(({ status }) => status === 200).length, 3)
        for (const answer of answers.filter(({ status }) => status !== 200)) assertTooMuch(answer)

        const waiting = [...(await stage.waiting('ana')), ...(await stage.waiting('ben'))]
        assert.equal(waiting.length, 3)
        const { backchannel_auth_requests, notifications } = await countRows(stage)
        assert.deepEqual([backchannel_auth_requests, notifications], [3, 3], 'one notification each, no other row')
        const reached = auditOf(stage, 'limit.reached')
        assert.equal(reached.length, 17)
        assert.ok(reached.every(({ outcome, user, client }) => outcome === name && user && client))
        assert.equal(auditOf(stage, 'request.refused').length, 17)
      })
    }

    test('one client fills two of a user’s five places with the defaults outside development, for a day or not', async (t) => {
      const { limits } = checkedFor({ issuer: 'https://id.example.com', secret: newSecret(32) })
      const stage = await openStage(t, { engine, config: { limits, requests: { maxOpenPerUser: 5 } } })
      const day = { requested_expiry: '86400' }
      const answers = await Promise.all(Array.from({ length: 5 }, () => stage.ring('kiosk', day)))
      assert.equal(answers.filter(({ status }) => status === 200).length, 2)
      stage.clock.advance(2 * minute)
      assertTooMuch(await stage.ring('kiosk', day), 60)
      for (const as of ['northbank', 'till', 'till'] as const) assert.equal((await stage.ring(as, day)).status, 200)
    })

    test('a pause after a denial refuses all of them, and so does a block', async (t) => {
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
  test('for a minute: Retry-After says when the oldest request leaves the minute, and then there is room for one', async (t) => {
    const stage = await openStage(t, { config: { limits: { perUser: { perMinute: 2 } } } })
    assert.equal((await stage.ring('kiosk')).status, 200)
    stage.clock.advance(20 * second)
    assert.equal((await stage.ring('northbank')).status, 200)
    assertTooMuch(await stage.ring('kiosk'), 40)
    assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200, 'Ben is not affected')
    stage.clock.advance(40 * second)
    assert.equal((await stage.ring('kiosk')).status, 200)
    assertTooMuch(await stage.ring('kiosk'), 20)
  })

  test('on open requests: a decision makes room at once', async (t) => {
    const stage = await openStage(t, { config: { limits: { perClientAndUser: { open: 1 } } } })
    await stage.ring('kiosk', { requested_expiry: '20' })
    assertTooMuch(await stage.ring('kiosk'), 20)
    assert.equal((await stage.ring('northbank')).status, 200, 'another client is not affected')
    stage.clock.advance(20 * second)
    assert.equal((await stage.ring('kiosk')).status, 200)
    assertTooMuch(await stage.ring('kiosk'), 60)
    await stage.decide(await stage.newestRequest(), 'approved')
    assert.equal((await stage.ring('kiosk')).status, 200)
  })

  test('on pending requests of a user keeps CIBA’s own error, under both its names (AE-1)', async (t) => {
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

  test('for one client is set by the operator alone', async (t) => {
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
    const sendRequest = (login_hint: string) =>
      stage.post('/backchannel/authorize', { scope: 'openid', login_hint }, basic('own', client_secret))
    for (const login_hint of ['ana', 'ana', 'ben', 'ben']) assert.equal((await sendRequest(login_hint)).status, 200)
    assertTooMuch(await sendRequest('ana'))
    assert.equal((await stage.ring('kiosk')).status, 200)
    assertTooMuch(await stage.ring('kiosk', { login_hint: 'ben' }))

    const wanted = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll', limits: { perClient: { open: 9 } } }
    const registered = await fetch(`${stage.url}/oauth/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(wanted),
    })
    assert.equal(registered.status, 400)
    assert.match(await registered.text(), /limits may only be set by the operator/)
  })
})

describe('a client that was denied', () => {
  const limits = { pauseAfterDenial: { first: 30, longest: 100 } }
  async function denied(stage: Stage): Promise<void> {
    assert.equal((await stage.ring('kiosk')).status, 200)
    await stage.decide(await stage.newestRequest(), 'denied')
  }

  test('waits before asking that user again, twice as long each time up to the longest pause, until an approval', async (t) => {
    const stage = await openStage(t, { config: { limits } })
    for (const pause of [30, 60, 100, 100]) {
      await denied(stage)
      assertTooMuch(await stage.ring('kiosk'), pause)
      assert.equal((await stage.ring('northbank')).status, 200, 'another client may ask')
      assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200, 'and it may ask Ben')
      // The refused request above came a few milliseconds after the denial.
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

  test('still waits after a restart; the pause is forgotten a day later', async (t) => {
    const stage = await openStage(t, { config: { limits } })
    await denied(stage)
    await stage.restart()
    assertTooMuch(await stage.ring('kiosk'), 30)
    assert.equal((await countRows(stage)).denial_pauses, 1)
    stage.clock.advance(24 * 60 * minute + 31 * second)
    await until(async () => {
      // The sweep removes expired pauses once a minute.
      stage.clock.advance(minute)
      return (await countRows(stage)).denial_pauses === 0
    })
  })

  test('does not wait where the setting switches pauses off', async (t) => {
    const stage = await openStage(t, { config: { limits: { pauseAfterDenial: { first: 0 } } } })
    await denied(stage)
    await denied(stage)
  })

  test('still waits if the user, who has not blocked it, unblocks it', async (t) => {
    const stage = await openStage(t, { config: { limits } })
    await denied(stage)
    const unblock = { client_id: 'kiosk', blocked: 'false' }
    assert.equal((await stage.post('/backchannel/block', unblock, await bearerOf(stage))).status, 200)
    assertTooMuch(await stage.ring('kiosk'), 30)
  })

  test('and reported is blocked, until the user unblocks it (CD-5)', async (t) => {
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
    assert.equal((await stage.ring('kiosk', { login_hint: 'ben' })).status, 200, 'Ben has reported no client')
    assert.equal((await stage.ring('northbank')).status, 200)

    const bearer = await bearerOf(stage)
    await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'false' }, bearer)
    assert.equal((await stage.ring('kiosk')).status, 200, 'at once: the pause is over with the block')
    await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'true' }, bearer)
    assert.equal((await stage.ring('kiosk')).status, 403)
    const unblocked = auditOf(stage, 'client.unblocked')
    assert.partialDeepStrictEqual(unblocked, [{ client: 'kiosk', user: ana.id, address: '127.0.0.1' }])
  })

  test('does not wait after an expiry, if there was time to answer', async (t) => {
    const stage = await openStage(t, { config: { limits } })
    await stage.ring('kiosk', { requested_expiry: '60' })
    stage.clock.advance(60 * second)
    await stage.doorbell.sweep()
    assert.equal((await stage.ring('kiosk')).status, 200)
  })
})

describe('pages that listen for changes', () => {
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

  test('are limited for each session; a closed page makes room', async (t) => {
    const { listen, anas, bens } = await listening(t, { perSession: 2 })
    const streams = [await listen(anas), await listen(anas)]
    assert.deepEqual(
      streams.map(({ response }) => response.status),
      [200, 200],
    )
    const { response } = await listen(anas)
    assert.deepEqual([response.status, response.headers.get('retry-after')], [429, '30'])
    assert.equal((await listen(bens)).response.status, 200, 'another session has its own')
    streams[0]!.stop()
    let again = await listen(anas)
    for (let look = 0; again.response.status === 429 && look < 200; look++) again = await listen(anas)
    assert.equal(again.response.status, 200)
  })

  test('are limited for all sessions together', async (t) => {
    const { listen, anas, bens } = await listening(t, { perSession: 2, inAll: 2 })
    assert.equal((await listen(anas)).response.status, 200)
    assert.equal((await listen(bens)).response.status, 200)
    assert.equal((await listen(bens)).response.status, 429)
  })
})

/** Sends this many requests at the same moment. The clients send them in turn. */
function ringAtOnce(stage: Stage, times: number, who: RingingClient[], about = ['ana']): Promise<Answer[]> {
  const numbers = Array.from({ length: times }, (_, number) => number)
  return Promise.all(
    numbers.map((number) =>
      stage.ring(who[number % who.length]!, { login_hint: about[Math.floor(number / who.length) % about.length]! }),
    ),
  )
}

/** Returns the checked configuration for an input. */
function checkedFor(input: Record<string, unknown>): CheckedConfig {
  const checked = checkConfig(input)
  return 'config' in checked ? checked.config : assert.fail(checked.problems.join())
}
