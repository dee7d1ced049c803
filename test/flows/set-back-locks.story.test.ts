/** After a clock is set back, limits, locks and pauses from before are over. So nobody is locked out for longer. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import type { ConfigInput } from '../../src/config/config.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { playedBy, refusalOf } from '../support/foreign-client.ts'
import { ana, basic, ben, openStage, type Stage, type StageOptions } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openSignIn } from './held-hashing.ts'
import { minute, second } from './limited-requests.ts'
import { calls, poll } from './registration-calls.ts'
import { secret } from './user-codes.ts'

const hour = 60 * minute
const day = 24 * hour

interface Lock {
  config?: ConfigInput
  /** How long the first lock lasts, in milliseconds. */
  lasts: number
  /** Resolves to a function that makes an attempt, and resolves to whether it was refused because of the lock. */
  open(stage: Stage): Promise<() => Promise<boolean>>
}

/** Returns whether a status is `locked`. Any other status must be `free`, the status of an attempt that was checked. */
function isLocked(status: number, locked: number, free: number): boolean {
  assert.ok([locked, free].includes(status), String(status))
  return status === locked
}

/**
 * Denies the pending request. It may not be the newest request, because requests from before the clock was set back
 * have later times.
 */
async function deny(stage: Stage): Promise<void> {
  const pending = (await stage.waiting()).filter(({ status }) => status === 'pending')
  assert.equal(pending.length, 1)
  assert.equal((await stage.decide(pending[0]!.request_id, 'denied')).status, 200)
}

/** Returns a function that tries to sign in with a wrong password. Resolves to the response. */
const signsIn = (stage: Stage) => async (name: string) => (await openSignIn(stage))('198.51.100.1', name)

const rings = (stage: Stage) => async () => isLocked((await stage.ring('kiosk')).status, 429, 200)
const proxy = { trust: ['127.0.0.1/32', '::1'] }
const codes: ConfigInput = {
  users: [{ ...ana, user_code: 'heron-4711' }, ben],
  clients: [pollClient('booth', { client_secret: secret, backchannel_user_code_parameter: true })],
}
const sendsWrongCodes = (stage: Stage) => async () => {
  const form = { scope: 'openid', login_hint: 'ana', user_code: 'wrong' }
  return isLocked((await stage.post('/backchannel/authorize', form, basic('booth', secret))).status, 403, 400)
}
const perName = { limits: { signIn: { perName: 3, pause: 30, longestPause: 86_400 } } }

const locks: Record<string, Lock> = {
  'unknown users in a minute': {
    config: { limits: { perClient: { unknownPerMinute: 2 } } },
    lasts: minute,
    open: async (stage) => async () => {
      const { status } = await stage.ring('kiosk', { login_hint: 'zoe' })
      return isLocked(status, 429, 400)
    },
  },
  'the pause after a denial, met by openid-client': {
    config: { limits: { pauseAfterDenial: { first: 30, longest: 86_400 } } },
    lasts: 30 * second,
    async open(stage) {
      const client = await playedBy(stage, 'kiosk')
      return async () => {
        stage.clock.advance(1)
        const asking = openid.initiateBackchannelAuthentication(client, { scope: 'openid', login_hint: 'ana' })
        const [{ status }] = await Promise.all([refusalOf(asking).catch(() => ({ status: 200 }))])
        if (status === 200) await deny(stage)
        return isLocked(status, 429, 200)
      }
    },
  },
  'wrong user codes of a client for one user': {
    config: { ...codes, userCodes: { maxTries: 3, lockSeconds: 60 } },
    lasts: minute,
    open: async (stage) => sendsWrongCodes(stage),
  },
  'wrong user codes of a client for all users': {
    config: { ...codes, userCodes: { maxTriesPerClient: 3, lockSeconds: 60 } },
    lasts: minute,
    open: async (stage) => sendsWrongCodes(stage),
  },
  'wrong passwords for a name': {
    config: { ...perName, proxy },
    lasts: 30 * second,
    open: async (stage) => async () => isLocked((await signsIn(stage)('ana')).status, 429, 401),
  },
  'wrong passwords from an address': {
    config: { proxy, limits: { signIn: { perName: 1000, perAddress: 3, pause: 30, longestPause: 86_400 } } },
    lasts: 30 * second,
    async open(stage) {
      let number = 0
      // The counter of an address forgets attempts one by one, so its time may be older than the last attempt.
      return async () => {
        stage.clock.advance(second)
        return isLocked((await signsIn(stage)(`name-${number++}`)).status, 429, 401)
      }
    },
  },
  'registrations in an hour': {
    config: { registration: { mode: 'open', perHour: 2 } },
    lasts: hour,
    open: async (stage) => async () => isLocked((await calls(stage).register(poll)).status, 429, 201),
  },
  'attempts to register in an hour': {
    config: { registration: { mode: 'open', perHour: 1 } },
    lasts: hour,
    open: async (stage) => async () =>
      isLocked((await calls(stage).register({ ...poll, scope: 'zebra' })).status, 429, 400),
  },
  'requests in a minute': {
    config: { limits: { perClientAndUser: { perMinute: 2 } } },
    lasts: minute,
    open: async (stage) => rings(stage),
  },
  'a user who was ended and is there again': {
    config: { users: { find: async () => ana, findByHint: async () => ana } },
    lasts: 5 * second,
    open: async (stage) => async () => {
      const refused = await rings(stage)()
      if (!refused) await stage.doorbell.users.end(ana.id)
      return refused
    },
  },
}

/** Opens a stage. `setBack` sets back the clock of the server, and that of its database. */
async function openSettable(t: TestContext, options: StageOptions) {
  let behind = 0
  const stage = await openStage(t, {
    ...options,
    parts: {
      async openDatabase(...about) {
        const database = await openDatabase(...about)
        const offset = Object.getOwnPropertyDescriptor(database, 'clockOffset')!
        const get = () => Number(offset.get === undefined ? offset.value : offset.get.call(database)) - behind
        return Object.defineProperty(database, 'clockOffset', { get })
      },
    },
  })
  function setBack(milliseconds: number): void {
    behind += milliseconds
    stage.clock.setBack(milliseconds)
  }
  return { stage, setBack }
}

/** Makes attempts until they are refused. */
async function reach(attempt: () => Promise<boolean>): Promise<void> {
  for (let made = 0; made < 20; made++) if (await attempt()) return
  assert.fail('no attempt was refused')
}

for (const engine of engines) {
  describe(`clocks that are set back, on ${engine.name}`, () => {
    for (const [what, { config = {}, lasts, open }] of Object.entries(locks)) {
      test(`by more than a lock can last ends it at once, and the lock works again: ${what}`, async (t) => {
        const { stage, setBack } = await openSettable(t, { engine, config })
        const attempt = await open(stage)
        for (const by of [15 * minute, hour, day, 30 * day, 365 * day]) {
          await reach(attempt)
          assert.ok(await attempt(), 'locked')
          setBack(by)
          assert.equal(await attempt(), false, `set back by ${by} ms`)
        }
      })

      test(`by less than a minute ends no lock: ${what}`, async (t) => {
        const { stage, setBack } = await openSettable(t, { engine, config })
        const attempt = await open(stage)
        await reach(attempt)
        setBack(50 * second)
        assert.ok(await attempt(), 'still locked')
        stage.clock.advance(lasts + 51 * second)
        assert.equal(await attempt(), false, 'over')
      })
    }

    test('if only the clock of the server is set back, a lock after wrong codes neither ends nor lasts longer', async (t) => {
      const { config, lasts, open } = locks['wrong user codes of a client for one user']!
      const stage = await openStage(t, { engine, config: config! })
      const attempt = await open(stage)
      for (const by of [15 * minute, day]) {
        await reach(attempt)
        stage.clock.setBack(by)
        assert.ok(await attempt(), `set back by ${by} ms`)
        stage.clock.advance(lasts)
        assert.equal(await attempt(), false, 'over')
      }
    })

    test('leaves the pauses of a client and of a name as long as they have grown', async (t) => {
      const limits = { ...perName.limits, pauseAfterDenial: { first: 30, longest: 86_400 } }
      const { stage, setBack } = await openSettable(t, { engine, config: { proxy, limits } })
      const attempt = () => signsIn(stage)('ana')
      for (const made of [1, 2]) assert.equal((await attempt()).status, 401, String(made))
      const seen: string[][] = []
      for (const by of [hour, day, 7 * day, 30 * day, 365 * day]) {
        assert.equal((await attempt()).status, 401)
        assert.equal((await stage.ring('kiosk')).status, 200)
        await deny(stage)
        const paused = [await attempt(), await stage.ring('kiosk')]
        seen.push(paused.map(({ status, headers }) => `${status} ${headers.get('retry-after')}`))
        setBack(by)
      }
      const grown = [30, 60, 120, 240, 480].map((seconds) => [`429 ${seconds}`, `429 ${seconds}`])
      assert.deepEqual(seen, grown)
    })

    test('does not end the longest pause that can be set, if the pause has begun before', async (t) => {
      const limits = {
        signIn: { perName: 1, pause: 3600, longestPause: 86_400 },
        pauseAfterDenial: { first: 86_400, longest: 86_400 },
      }
      const { stage, setBack } = await openSettable(t, { engine, config: { proxy, limits } })
      const attempt = async () => (await signsIn(stage)('ana')).status
      for (let pause = hour; pause < day; pause *= 2) {
        assert.equal(await attempt(), 401)
        stage.clock.advance(pause)
      }
      assert.equal(await attempt(), 401)
      await stage.ring('kiosk')
      await deny(stage)
      for (const [passed, by] of [
        [0, minute - second],
        [10 * hour, 9 * hour],
        [10 * hour, 8 * hour],
        [10 * hour, 0],
        [9 * hour, 0],
      ] as const) {
        stage.clock.advance(passed)
        setBack(by)
        assert.deepEqual([await attempt(), (await stage.ring('kiosk')).status], [429, 429], `${passed} ${by}`)
      }
      stage.clock.advance(3 * hour)
      assert.deepEqual([await attempt(), (await stage.ring('kiosk')).status], [401, 200])
    })

    test('does not keep attempts from an address from being forgotten', async (t) => {
      const { open, config } = locks['wrong passwords from an address']!
      const { stage, setBack } = await openSettable(t, { engine, config: config! })
      const attempt = await open(stage)
      for (let made = 0; made < 2; made++) assert.equal(await attempt(), false)
      setBack(day)
      assert.equal(await attempt(), false)
      // Two of the three attempts are forgotten.
      stage.clock.advance(20 * minute)
      assert.equal(await attempt(), false)
      const [{ attempts } = {}] = await rowsOf(stage, 'select max(attempts) as attempts from sign_in_attempts')
      assert.ok(Number(attempts) >= 2, String(attempts))
      assert.equal(await attempt(), false, 'the third within ten minutes')
      assert.ok(await attempt())
    })
  })
}
