/** The cost of password hashing: attempts by one caller do not stop others, and stored hashes are strong. */
import assert from 'node:assert/strict'
import { createHook } from 'node:async_hooks'
import { availableParallelism } from 'node:os'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { createPasswordHashing, passwordOf, userCodeOf } from '../../src/user/password/password-hashing.ts'
import type { Scrypt } from '../../src/user/password/scrypt.ts'
import { pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { vault } from '../support/rows.ts'
import { type Answer, ana, basic, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import {
  boothSecret,
  code,
  config,
  heldUp,
  issueTokens,
  openHeldUp,
  openSignIn,
  refusalsAmong,
} from './held-hashing.ts'

/** Callers that send passwords from unknown browsers. The queue accepts 5 of a network, 10 of a /48, and 16 in all. */
const crowds: [string, number, (number: number) => string, number][] = [
  ['fifty from one address', 50, () => '192.0.2.1', 5],
  ['a hundred and fifty from three addresses', 150, (number) => `192.0.${number % 3}.1`, 15],
  ['five hundred from as many networks', 500, eachElsewhere, 16],
  ['fifteen hundred from as many networks', 1500, eachElsewhere, 16],
  ['a hundred and fifty from one /48', 150, (number) => `2001:db8:1:${number.toString(16)}::1`, 10],
]

/** How many sign-ins may look up their user at the same time. */
const lookUpsAtOnce = 8

/** Authenticated clients that send user codes. The queue accepts 8 of a client, 32 of its network, and 64 in all. */
const codeCrowds: [string, CodeCrowd][] = [
  ['fifty of one client', { count: 50, clients: 1, addressOf: () => '192.0.2.1', places: 8 }],
  ['a hundred of one client, from as many networks', { count: 100, clients: 1, addressOf: eachElsewhere, places: 8 }],
  ['a hundred of ten clients of one network', { count: 100, clients: 10, addressOf: () => '192.0.2.1', places: 32 }],
  [
    'a hundred and fifty of ten clients, from as many networks',
    { count: 150, clients: 10, addressOf: eachElsewhere, places: 64 },
  ],
  [
    'fifteen hundred of a hundred clients, from as many networks',
    { count: 1500, clients: 100, addressOf: eachElsewhere, places: 64 },
  ],
]

interface CodeCrowd {
  count: number
  clients: number
  addressOf: (number: number) => string
  places: number
}

function eachElsewhere(number: number): string {
  return `10.${number >> 8}.${number & 255}.1`
}

/** Configures clients that use codes. The limits of attempts are high, so that only the queue limits the calls. */
function withCodes(clients: number): ConfigInput {
  const booth = { client_secret: boothSecret, backchannel_user_code_parameter: true }
  return {
    ...config,
    clients: Array.from({ length: clients }, (_, number) => pollClient(`booth-${number}`, booth)),
    userCodes: { maxTries: 100, maxTriesPerClient: 1000, maxTriesPerUser: 1000 },
  }
}

/**
 * Sends `count` calls, a hundred at a time. If 1500 calls were sent at once on a busy machine, the server would close
 * some connections before the calls are sent. Resolves when all calls except `places` have been refused.
 */
async function sendInGroups<A extends { status: number }>(
  count: number,
  places: number,
  send: (n: number) => Promise<A>,
) {
  const answers: Promise<A>[] = []
  const refusals: (() => number)[] = []
  const refused = () => refusals.reduce((sum, ofGroup) => sum + ofGroup(), 0)
  while (answers.length < count) {
    const length = Math.min(100, count - answers.length)
    const group = Array.from({ length }, (_, n) => send(answers.length + n))
    answers.push(...group)
    refusals.push(refusalsAmong(group))
    await until(() => refused() >= answers.length - places)
  }
  return { answers, refused }
}

async function sendWrongCode(stage: Stage, as: string, address: string): Promise<Answer> {
  const response = await fetch(`${stage.url}/backchannel/authorize`, {
    method: 'POST',
    headers: { authorization: basic(as, boothSecret), 'x-forwarded-for': address },
    body: new URLSearchParams({ scope: 'openid', login_hint: 'ana', user_code: 'wrong' }),
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, body: JSON.parse(text) }
}

for (const engine of engines) {
  describe(`a crowd of wrong passwords, on ${engine.name}`, () => {
    for (const [name, count, addressOf, places] of crowds) {
      test(`${name}: two hashes under way, ${places} attempts in the queue, 503 for the others; tokens are issued`, async (t) => {
        const { held, stage, statements, attempt } = await openHeldUp(t, { engine })
        const sql = await statements.during(async () => {
          const { answers, refused } = await sendInGroups(count, places, (n) => attempt(addressOf(n), `u${n}`))
          await until(async () => refused() === count - places && (await placesOf(stage)) === places)
          await until(() => held.underWay() === 2)
          assert.equal(await triesOf(stage), 4 * 2, 'only attempts whose turn has come are counted')
          await issueTokens(stage)
          held.letAll()
          const statuses = (await Promise.all(answers)).map(({ status }) => status)
          assert.equal(statuses.filter((status) => status === 401).length, places)
          assert.equal(statuses.filter((status) => status === 503).length, count - places)
        })
        assert.deepEqual(held.seen, { most: 2, begun: places })
        assert.equal(await triesOf(stage), 4 * places, 'a refused attempt does not count as tried')
        assert.equal(aboutTries(sql).length, 4 * places, 'a refused attempt has not been counted and uncounted again')
        const lookUps = sql.filter((each) => /from oidc_models found where model = /.test(each)).length
        assert.ok(lookUps <= places + lookUpsAtOnce, `${lookUps} sign-ins were looked up for ${places} places`)
      })
    }
  })

  describe(`a crowd of wrong user codes, on ${engine.name}`, () => {
    for (const [name, { count, clients, addressOf, places }] of codeCrowds) {
      test(`${name}: two hashes under way, ${places} attempts in the queue, 503 for the others; tokens are issued`, async (t) => {
        const { held, stage } = await openHeldUp(t, { engine, config: withCodes(clients) })
        const { answers, refused } = await sendInGroups(count, places, (n) =>
          sendWrongCode(stage, `booth-${n % clients}`, addressOf(n)),
        )
        await until(async () => refused() === count - places && (await placesOf(stage)) === places)
        await until(() => held.underWay() === 2)
        assert.deepEqual(await codeTriesOf(stage), { pair: 2 }, 'only attempts whose turn has come are counted')
        await issueTokens(stage)
        held.letAll()
        const heard = (await Promise.all(answers)).map(({ status, headers, body }) =>
          [status, body.error, headers.get('retry-after')].join(' '),
        )
        assert.equal(heard.filter((each) => each === '400 invalid_user_code ').length, places)
        assert.equal(heard.filter((each) => each === '503 temporarily_unavailable 1').length, count - places)
        assert.deepEqual(held.seen, { most: 2, begun: places })
        assert.deepEqual(await codeTriesOf(stage), { pair: places, client: places, user: places })
      })
    }
  })
}

describe('wrong passwords at once', () => {
  test('a page says that the attempt must be repeated, and when', async (t) => {
    const { held, attempt } = await openHeldUp(t)
    const answers = Array.from({ length: 6 }, () => attempt('192.0.2.1', 'ana'))
    const refused = await Promise.race(answers)
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '5'])
    const text = await refused.text()
    assert.match(text, /Many people are signing in at the moment/)
    const again = /<a class="button" href="([^"]+)">Try again<\/a>/.exec(text)![1]!
    const form = await (await fetch(new URL(again, refused.url), { headers: { cookie: attempt.cookie } })).text()
    assert.match(form, /<form method="post" action="\/sign-in\//)
    held.letAll()
    await Promise.all(answers)
  })

  test('a user from another network, and a client with a user code, get the next turns', async (t) => {
    const held = heldUp()
    const names = new Map([
      [await secretFor(ana.password, passwordOf(ana.id)), 'ana'],
      [await secretFor(code, userCodeOf('')), 'booth'],
    ])
    const order: string[] = []
    const scrypt: Scrypt = (job) => {
      order.push(names.get(Buffer.from(job.secret).toString('hex')) ?? 'crowd')
      return held.scrypt(job)
    }
    const stage = await openStage(t, { config, parts: { passwords: { scrypt, atOnce: 2 } } })
    t.after(held.letAll)
    const attempt = await openSignIn(stage)
    const crowd = Array.from({ length: 150 }, (_, number) => attempt(`192.0.${number % 3}.1`, `u${number}`))
    const refused = refusalsAmong(crowd)
    await until(() => refused() === 135)
    const signedIn = attempt('198.51.100.7', 'ana', ana.password)
    const form = { scope: 'openid', login_hint: 'ana', user_code: code }
    const asked = stage.post('/backchannel/authorize', form, basic('booth', boothSecret))
    await until(async () => (await placesOf(stage)) === 17)
    for (const begun of [3, 4, 5]) {
      held.letOne()
      await until(() => order.length === begun)
    }
    assert.deepEqual(order, ['crowd', 'crowd', 'booth', 'crowd', 'ana'], 'each network once, and then hers')
    held.letAll()
    assert.equal((await signedIn).status, 303)
    assert.equal((await asked).status, 200)
    await Promise.all(crowd)
  })

  for (const engine of engines) {
    test(`a caller that hangs up while waiting frees its place and leaves nothing behind, on ${engine.name}`, (t) =>
      hangUp(t, engine))

    test(`a call that needs no hash does not wait and takes no place, on ${engine.name}`, async (t) => {
      const limits = { signIn: { perName: 1000, perAddress: 1, perNetwork: 1000, pause: 60 } }
      const { held, stage, attempt } = await openHeldUp(t, { engine, config: { ...config, limits } })
      const first = attempt('192.0.2.1', 'ana')
      await until(() => held.underWay() === 1)
      held.letOne()
      assert.equal((await first).status, 401)
      const two = [attempt('198.51.100.1', 'a'), attempt('198.51.100.2', 'b')]
      await until(() => held.underWay() === 2)

      const foreign = await openSignIn(stage)
      const other = await openSignIn(stage)
      const pauses = Array.from({ length: 16 }, () => attempt('192.0.2.1', 'ana', ana.password))
      const elsewhere = Array.from({ length: 240 }, (_, number) => foreign.with(other.cookie, eachElsewhere(number)))
      const statuses = (await Promise.all([...pauses, ...elsewhere])).map(({ status }) => status)
      assert.deepEqual(statuses, [...Array(16).fill(429), ...Array(240).fill(410)])
      assert.equal(await placesOf(stage), 2)
      held.letAll()
      assert.deepEqual(
        (await Promise.all(two)).map(({ status }) => status),
        [401, 401],
      )
      assert.equal((await attempt('203.0.113.1', 'ana', ana.password)).status, 303)
    })
  }

  async function hangUp(t: TestContext, engine: Engine) {
    const { held, stage, statements, attempt } = await openHeldUp(t, { engine })
    const two = [attempt('192.0.2.1', 'a'), attempt('192.0.2.1', 'b')]
    await until(() => held.underWay() === 2)
    const sql = await statements.during(async () => {
      for (let time = 0; time < 10; time++) {
        const gone = new AbortController()
        const waiting = ['c', 'd', 'e'].map((name) => attempt('192.0.2.1', name, 'wrong', gone.signal))
        const left = Promise.allSettled(waiting)
        await until(async () => (await placesOf(stage)) === 5)
        assert.equal((await attempt('192.0.2.1', 'f')).status, 503)
        gone.abort()
        await left
        await until(async () => (await placesOf(stage)) === 2)
      }
    })
    assert.deepEqual(aboutTries(sql), [])
    const third = attempt('192.0.2.1', 'g')
    await until(async () => (await placesOf(stage)) === 3)
    held.letAll()
    assert.deepEqual(
      (await Promise.all([...two, third])).map(({ status }) => status),
      [401, 401, 401],
    )
    assert.equal(held.seen.begun, 3, 'nothing was computed for callers that have left')
  }

  test('as many hashes are computed at once as there are spare processors, at most two', async (t) => {
    const held = heldUp()
    const stage = await openStage(t, { config, parts: { passwords: { scrypt: held.scrypt } } })
    t.after(held.letAll)
    const attempt = await openSignIn(stage)
    const tries = [1, 2, 3, 4].map((number) => attempt(`192.0.2.${number}`, 'ana'))
    await until(async () => (await placesOf(stage)) === 4 && held.underWay() > 0)
    await issueTokens(stage)
    held.letAll()
    await Promise.all(tries)
    assert.equal(held.seen.most, availableParallelism() > 2 ? 2 : 1)
  })

  test('no hash runs in the threads of libuv, in which signatures are made', async (t) => {
    let inLibuv = 0
    const hook = createHook({
      init(_id, type) {
        if (type === 'SCRYPTREQUEST') inLibuv += 1
      },
    })
    const stage = await openStage(t, { config })
    const attempt = await openSignIn(stage)
    hook.enable()
    t.after(() => hook.disable())
    for (const name of ['ana', 'zoe']) assert.equal((await attempt('192.0.2.1', name)).status, 401)
    assert.equal((await attempt('192.0.2.1', 'ana', ana.password)).status, 303)
    const form = { scope: 'openid', login_hint: 'ana', user_code: code }
    assert.equal((await stage.post('/backchannel/authorize', form, basic('booth', boothSecret))).status, 200)
    assert.equal(inLibuv, 0)
  })
})

/** The input of scrypt for a password on the stage. */
async function secretFor(password: string, of: string): Promise<string> {
  let sent = ''
  const scrypt: Scrypt = async ({ secret }) => {
    sent = Buffer.from(secret).toString('hex')
    return new Uint8Array(32)
  }
  await createPasswordHashing({ vault, scrypt }).hash(password, of)
  return sent
}

/** Resolves to the number of callers in the queue. */
async function placesOf(stage: Stage): Promise<number> {
  const { text } = await stage.get('/metrics')
  return Number(/^doorbell_hashing_places (\d+)$/m.exec(text)?.[1])
}

async function triesOf(stage: Stage): Promise<number> {
  const [row] = await rowsOf(stage, 'select sum(attempts) as tries from sign_in_attempts')
  return Number(row!.tries)
}

/** Returns the statements that count attempts, or remove attempts from a counter. */
function aboutTries(sql: string[]): string[] {
  return sql.filter((each) => /^(insert into|update|delete from) sign_in_attempts/.test(each))
}

/** The counters of user codes: for pairs of client and user, for clients, for users. */
async function codeTriesOf(stage: Stage): Promise<Record<string, number>> {
  const sums: Record<string, number> = {}
  for (const { counter, tries } of await rowsOf(stage, 'select counter, tries from user_code_tries')) {
    const [of = ''] = String(counter).split(' ')
    sums[of] = (sums[of] ?? 0) + Number(tries)
  }
  return sums
}
