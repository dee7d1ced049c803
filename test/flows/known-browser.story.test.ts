/**
 * Password attempts for a user are counted for the user and for the caller's network. Attempts in a browser that is
 * known for the user are counted separately.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { createAuthenticator } from '../support/authenticator.ts'
import { type Engine, engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'
import { openVisitor } from '../support/visitor.ts'

const minute = 60_000
const proxy = { trust: ['127.0.0.1/32', '::1'] }
const signIn = { perName: 4, perAddress: 100, perNetwork: 1000, pause: 30, longestPause: 900 }
const names = [ana.username, ana.email, ana.phone_number, ana.id]
const unknownNames = ['zoe', 'zoe@example.com', '+34600000099', 'user-zoe']

function openProxied(t: TestContext, engine?: Engine, limits: ConfigInput['limits'] = { signIn }) {
  return openStage(t, { ...(engine && { engine }), config: { proxy, limits } })
}

/** Opens the sign-in page in a browser. Its attempts come from the given address. */
async function openBrowserAt(stage: Stage, jar: ReadonlyMap<string, string> = new Map(), issuer?: string) {
  const visitor = openVisitor(stage.url, issuer)
  for (const [name, value] of jar) visitor.jar.set(name, value)
  const page = await visitor.follow(await visitor.get('/'))
  const action = /<form method="post" action="(\/sign-in\/[^"/]+)">/.exec(page.text)?.[1]
  if (action === undefined) throw new Error(`no sign-in page: ${page.status} ${page.text}`)
  const attempt = async (name: string, password = 'wrong', address = '192.0.2.1') => {
    const seen = await visitor.post(action, { name, password }, { 'x-forwarded-for': address })
    return { ...seen, text: seen.text.replaceAll(name, '…') }
  }
  return { visitor, action, attempt }
}

/** The cookies of a browser in which a user has signed in, without those of the session. */
async function knownTo(stage: Stage, who: { username: string; password: string }, before?: Map<string, string>) {
  const { visitor, attempt } = await openBrowserAt(stage, before)
  assert.equal((await attempt(who.username, who.password)).status, 303)
  const [known] = [...visitor.jar].filter(([name]) => name === 'doorbell_browser')
  assert.ok(known)
  return new Map([known])
}

/**
 * Makes failed attempts for one user, under all names and from `times` networks. After that, attempts in unknown
 * browsers are refused.
 */
async function besiege(stage: Stage, times = 12) {
  const { attempt } = await openBrowserAt(stage)
  for (let number = 0; number < times; number++) {
    for (const name of names) await attempt(name, 'wrong', `198.51.${number}.7`)
  }
}

for (const engine of engines) {
  describe(`attempts on one user, on ${engine.name}`, () => {
    test('are counted together, whichever of the four names is used; the right password is delayed too', async (t) => {
      const stage = await openProxied(t, engine)
      const { attempt } = await openBrowserAt(stage)
      for (const name of names) assert.equal((await attempt(name)).status, 401)
      for (const name of names) {
        assert.notEqual((await attempt(name, ana.password)).status, 303, `${name} is not a fifth try`)
      }
      assert.equal((await attempt(ben.username, ben.password)).status, 303, 'other users are not delayed')
      stage.clock.advance(minute)
      assert.equal((await attempt(ana.email, ana.password)).status, 303)
    })

    test('are counted together in every spelling of the phone number and of the names', async (t) => {
      const stage = await openProxied(t, engine)
      const spellings = [
        'tel:+34600000001',
        '+34 600 000 001',
        '+34-600-000-001',
        ' +34600000001 ',
        'ANA',
        'Ana@Example.com',
      ]
      const { attempt } = await openBrowserAt(stage)
      for (const name of spellings.slice(0, signIn.perName)) assert.equal((await attempt(name)).status, 401)
      const other = await openBrowserAt(stage)
      for (const name of [...spellings, ...names]) {
        assert.notEqual((await other.attempt(name, ana.password, '203.0.113.7')).status, 303, name)
      }
      for (const name of spellings) {
        stage.clock.advance(20 * minute)
        const { attempt } = await openBrowserAt(stage)
        assert.equal((await attempt(name, ana.password)).status, 303, `${name} names her`)
      }
    })

    test('forty at once under four names are no more than four', async (t) => {
      const stage = await openProxied(t, engine)
      const { attempt } = await openBrowserAt(stage)
      const tries = Array.from({ length: 40 }, (_, number) => attempt(names[number % 4]!, 'wrong', `10.0.${number}.1`))
      await Promise.all(tries)
      const right = await Promise.all(names.map((name, number) => attempt(name, ana.password, `10.1.${number}.1`)))
      assert.ok(right.every(({ status }) => status !== 303))
    })

    test('get the same answers as attempts on unknown names, step by step', async (t) => {
      const stage = await openProxied(t, engine)
      const { attempt } = await openBrowserAt(stage)
      for (let round = 0; round < 6; round++) {
        for (const [number, name] of names.entries()) {
          const known = await attempt(name)
          const unknown = await attempt(unknownNames[number]!)
          assert.deepEqual([known.status, known.text], [unknown.status, unknown.text], `${name}, round ${round}`)
          assert.equal(known.headers.get('retry-after'), unknown.headers.get('retry-after'))
        }
      }
    })
  })

  describe(`a browser in which Ana has signed in before, on ${engine.name}`, () => {
    test('is not delayed by wrong passwords from elsewhere, nor by others at its own address', async (t) => {
      const stage = await openProxied(t, engine, { signIn: { ...signIn, perAddress: 6 } })
      const jar = await knownTo(stage, ana)
      await besiege(stage)
      const { attempt: neighbour } = await openBrowserAt(stage)
      for (let number = 0; number < 8; number++) await neighbour(`somebody-${number}`)
      assert.equal((await neighbour(ana.username, ana.password)).status, 429)
      const { attempt } = await openBrowserAt(stage, jar)
      assert.equal((await attempt(ana.username, ana.password)).status, 303)
    })

    test('has attempts of its own: after four it is delayed, while another known browser is not', async (t) => {
      const stage = await openProxied(t, engine)
      const [one, other] = [await knownTo(stage, ana), await knownTo(stage, ana)]
      const { attempt } = await openBrowserAt(stage, one)
      const tries = await Promise.all(Array.from({ length: 20 }, () => attempt(ana.username)))
      assert.equal(tries.filter(({ status }) => status === 401).length, 4)
      // The queue accepts eight attempts of a user. Further attempts are not checked.
      assert.equal(tries.filter(({ status }) => status === 429 || status === 503).length, 16)
      for (const name of names) assert.equal((await attempt(name, ana.password)).status, 429)
      assert.equal((await (await openBrowserAt(stage, other)).attempt(ana.email, ana.password)).status, 303)
      const { attempt: fromUnknownBrowser } = await openBrowserAt(stage)
      assert.equal(
        (await fromUnknownBrowser(ana.username, ana.password)).status,
        303,
        'an unknown browser does not either',
      )
      stage.clock.advance(minute)
      assert.equal((await attempt(ana.username, ana.password)).status, 303)
    })
  })
}

describe('the cookie of a known browser', () => {
  test("is ignored when it is forged, altered or another user's", async (t) => {
    const stage = await openProxied(t)
    const [anas, bens] = [await knownTo(stage, ana), await knownTo(stage, ben)]
    const value = anas.get('doorbell_browser')!
    await besiege(stage)
    const plain = Buffer.from(JSON.stringify([{ userId: ana.id, browserId: 'x', generation: 0, at: 9e15 }]))
    for (const [what, cookie] of [
      ['none', new Map<string, string>()],
      ['of Ben', bens],
      ['forged', new Map([['doorbell_browser', `v1.${plain.toString('base64url')}`]])],
      ['altered', new Map([['doorbell_browser', `${value.slice(0, -4)}AAAA`]])],
      ['empty', new Map([['doorbell_browser', 'v1.']])],
    ] as const) {
      const { attempt } = await openBrowserAt(stage, cookie)
      assert.equal((await attempt(ana.username, ana.password)).status, 429, what)
    }
  })

  test('is set by a sign-in with a passkey too', async (t) => {
    const stage = await openProxied(t)
    const bearer = await bearerOf(stage)
    const authenticator = createAuthenticator(stage.url)
    const options = (await stage.post('/backchannel/passkeys/options', {}, bearer)).body as never
    const added = { passkey: authenticator.create(options), name: 'Phone' }
    assert.equal((await stage.post('/backchannel/passkeys', added, bearer)).status, 201)
    const { visitor, action } = await openBrowserAt(stage)
    const asked = await visitor.post(`${action}/passkey/options`, {})
    const passkey = authenticator.get(JSON.parse(asked.text))
    assert.equal((await visitor.post(`${action}/passkey`, { passkey })).status, 303)
    await besiege(stage)
    const known = new Map([['doorbell_browser', visitor.jar.get('doorbell_browser')!]])
    const { attempt } = await openBrowserAt(stage, known)
    assert.equal((await attempt(ana.username, ana.password)).status, 303)
  })

  test('does not sign in by itself: a password is still required, and attempts are limited', async (t) => {
    const stage = await openProxied(t)
    const stolen = await knownTo(stage, ana)
    const { attempt } = await openBrowserAt(stage, stolen)
    for (let number = 0; number < 4; number++)
      assert.equal((await attempt(ana.username, `guess-${number}`)).status, 401)
    assert.equal((await attempt(ana.username, 'guess-5')).status, 429)
    const fresh = await openBrowserAt(stage, stolen)
    assert.equal((await fresh.attempt(ana.username, 'guess-6')).status, 429, 'it is the cookie that is counted')
  })

  test('remembers each user of a shared browser, the last five, and is readable by the server alone', async (t) => {
    const stage = await openProxied(t)
    const both = await knownTo(stage, ben, await knownTo(stage, ana))
    await besiege(stage)
    const { attempt, visitor } = await openBrowserAt(stage, both)
    const seen = await attempt(ana.username, ana.password)
    assert.equal(seen.status, 303)
    const [line] = seen.headers.getSetCookie().filter((each) => each.startsWith('doorbell_browser='))
    assert.match(line!, /; Max-Age=15552000; Path=\/; HttpOnly; SameSite=Lax$/)
    assert.ok(!Buffer.from(visitor.jar.get('doorbell_browser')!, 'base64url').includes(ana.id), 'nor the user')
  })
})

describe('attempts from one network', () => {
  for (const engine of engines) {
    for (const [what, addressOf, elsewhere] of [
      ['a /48 of 65 536 /64s', (number: number) => `2001:db8:1:${number.toString(16)}::1`, '2001:db8:2::1'],
      ['a /24', (number: number) => `192.0.2.${number}`, '198.51.100.1'],
    ] as const) {
      test(`of ${what} are counted together, whichever address they come from and whichever name they are for, on ${engine.name}`, async (t) => {
        const stage = await openProxied(t, engine, { signIn: { ...signIn, perNetwork: 20 } })
        const { attempt } = await openBrowserAt(stage)
        const statuses: number[] = []
        for (let number = 0; number < 200; number++) {
          statuses.push((await attempt(`name-${number}`, 'wrong', addressOf(number))).status)
        }
        assert.deepEqual(statuses, [...Array(20).fill(401), ...Array(180).fill(429)])
        assert.equal((await attempt(ana.username, ana.password, addressOf(201))).status, 429)
        assert.equal((await attempt(ana.username, ana.password, elsewhere)).status, 303)
        stage.clock.advance(3 * minute)
        const later = await Promise.all(
          [1, 2, 3].map((number) => attempt(`more-${number}`, 'wrong', addressOf(number))),
        )
        assert.ok(
          later.every(({ status }) => status === 401),
          'each minute, one more attempt is allowed',
        )
        for (const number of [4, 5]) {
          const fourth = await attempt(`more-${number}`, 'wrong', addressOf(number))
          assert.equal(fourth.status, 429, 'after three minutes, no more than three attempts are allowed')
        }
        assert.equal((await attempt(ben.username, ben.password, addressOf(6))).status, 429)
      })
    }
  }
})
