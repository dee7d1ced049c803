/** An office signs in from one address, day after day, with a few wrong passwords: no user there is delayed. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Clock } from '../../src/platform/clock.ts'
import { createSignInAttemptStore } from '../../src/user/attempts/sign-in-attempt-store.ts'
import {
  createPasswordTryThrottle,
  createSignInThrottle,
  type PasswordTryThrottle,
  type SignInThrottle,
} from '../../src/user/attempts/sign-in-throttle.ts'
import { engines } from '../support/engines.ts'
import { allRows, furnished, vault } from '../support/rows.ts'

const minute = 60_000
/** The clock of the database shows the same time as the clock of the server. */
const byDatabase = ({ now }: Clock) => ({ now, toWallClock: (time: number) => time })
const pause = { first: 30_000, longest: 900_000 }
/** The default limits. */
const limits = { perName: 5, perAddress: 50, perNetwork: 200 }

interface Throttles {
  signIn: SignInThrottle
  passwordTry: PasswordTryThrottle
}

for (const engine of engines) {
  describe(`failed attempts are forgotten, on ${engine.name}`, () => {
    test('one by one as time passes, however many sign-ins succeed meanwhile', async (t) => {
      const { one, clock } = await furnished(t, engine)
      const attempts = createSignInAttemptStore(one.database, pause)
      const counter = { subjectHash: 'network', free: 100, fadesEveryMs: minute }
      const failed = async () => {
        const [row] = await allRows(one.database, 'sign_in_attempts')
        return Number(row?.attempts)
      }
      for (let number = 0; number < 20; number++) await attempts.take(counter, clock.now())
      assert.equal(await failed(), 20)
      for (let number = 1; number <= 30; number++) {
        clock.advance(minute / 2)
        const itsPause = await attempts.take(counter, clock.now())
        await attempts.uncount(counter.subjectHash, itsPause!)
      }
      assert.equal(await failed(), 20 - 15)
    })

    for (const [what, address] of [
      ['one IPv4 address', '198.51.100.7'],
      ['one /64', '2001:db8:1:1::7'],
    ] as const) {
      test(`of an office behind ${what}, so that they do not add up over days`, async (t) => {
        const { one, clock } = await furnished(t, engine)
        const attempts = createSignInAttemptStore(one.database, pause)
        const throttle = createSignInThrottle({ attempts, limits, vault, databaseClock: byDatabase(clock) })
        // Every twenty minutes one attempt is wrong, and three are right: 216 mistakes in three days delay no user.
        for (let passed = 0; passed < 3 * 24 * 60; passed += 5) {
          clock.advance(5 * minute)
          const attempt = await throttle.from(address)
          assert.equal(attempt.pausedUntil, undefined, `after ${passed} minutes`)
          if (passed % 20 !== 0) await attempt.succeeded()
        }
      })
    }

    test('but endless attempts are delayed: fewer than four hundred a day from one address', async (t) => {
      const { one, clock } = await furnished(t, engine)
      const attempts = createSignInAttemptStore(one.database, pause)
      const throttle = createSignInThrottle({ attempts, limits, vault, databaseClock: byDatabase(clock) })
      let made = 0
      for (let passed = 0; passed < 24 * 60; passed += 1) {
        clock.advance(minute)
        while ((await throttle.from('198.51.100.7')).pausedUntil === undefined) made += 1
      }
      assert.ok(made >= limits.perAddress && made < 400, String(made))
    })
  })

  describe(`a clock that was set back does not lengthen a pause, on ${engine.name}`, () => {
    const attemptsOf = {
      'values that are compared with the password within a session': ({ passwordTry }: Throttles) => passwordTry('ana'),
      'a browser in which the user has signed in': async ({ signIn }: Throttles) =>
        (await signIn.with('browser')).pausedUntil,
      'a user, under several names': async ({ signIn }: Throttles, number: number) => {
        const attempt = await signIn.as(`name-${number}`, 'ana')
        return 'isHeldBack' in attempt ? 1 : attempt.pausedUntil
      },
      'an address': async ({ signIn }: Throttles) => (await signIn.from('198.51.100.7')).pausedUntil,
      'a network': async ({ signIn }: Throttles, number: number) =>
        (await signIn.from(`198.51.100.${number % 250}`)).pausedUntil,
    }
    for (const [what, attempt] of Object.entries(attemptsOf)) {
      test(`of ${what}`, async (t) => {
        const { one, clock } = await furnished(t, engine)
        const needs = {
          attempts: createSignInAttemptStore(one.database, pause),
          limits,
          vault,
          databaseClock: byDatabase(clock),
        }
        const throttles = { signIn: createSignInThrottle(needs), passwordTry: createPasswordTryThrottle(needs) }
        let made = 0
        for (const setBack of [15 * minute, 60 * minute, 24 * 60 * minute]) {
          while ((await attempt(throttles, made++)) === undefined) assert.ok(made < 500)
          clock.setBack(setBack)
          assert.equal(await attempt(throttles, made++), undefined, `set back by ${setBack} ms`)
        }
        while ((await attempt(throttles, made++)) === undefined) assert.ok(made < 500)
        clock.setBack(minute / 2)
        assert.notEqual(await attempt(throttles, made++), undefined, 'the tolerance for clocks of other nodes')
      })
    }
  })
}
