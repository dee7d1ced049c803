/**
 * Event streams of open pages: how many database reads a change causes, the limits, and when streams end. The reads are
 * counted.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import type { ConfigInput } from '../../src/config/config.ts'
import { createCookies } from '../../src/consent-app/session.ts'
import { createAdapterFactory } from '../../src/openid-provider/oidc-adapter.ts'
import { createOidcModelStore } from '../../src/openid-provider/oidc-model-store.ts'
import { fingerprint, newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { vault } from '../support/rows.ts'
import { credentials, newNotificationToken, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import { openVisitor } from '../support/visitor.ts'

for (const engine of engines) {
  describe(`pages that listen, on ${engine.name}`, () => {
    test('of a hundred users: a new request costs one read, its decision another, its expiry one more', async (t) => {
      const { stage, pages, looksDuring } = await listening(t, engine, { users: 100, pagesEach: 1 })
      const [ana, ben] = [pages[0]!, pages[99]!]
      const looks = await looksDuring(async () => {
        await sendRequest(stage, 0)
        await until(() => ana.changes === 1)
        await stage.decide(await stage.newestRequest('user-0'), 'denied', { login_hint: 'user-0' })
        await until(() => ana.changes === 2)
        await sendRequest(stage, 0, { requested_expiry: '60' })
        await until(() => ana.changes === 3)
        stage.clock.advance(61_000)
        await stage.doorbell.sweep()
        await until(() => ana.changes === 4)
        await sendRequest(stage, 99)
        await until(() => ben.changes === 1)
      })
      assert.equal(looks, 5)
      assert.equal(pages.filter(({ changes }) => changes > 0).length, 2)
    })

    test('a hundred of each of ten users: opening costs ten reads, a change costs one and reaches all hundred', async (t) => {
      const { stage, pages, looksDuring, opening } = await listening(t, engine, { users: 10, pagesEach: 100 })
      assert.equal(opening, 10)
      const looks = await looksDuring(async () => {
        await sendRequest(stage, 3)
        await until(() => pages.filter(({ changes }) => changes === 1).length === 100)
      })
      assert.equal(looks, 1)
    })

    test('collecting tokens changes nothing that waits, so nothing is read', async (t) => {
      const { stage, pages, looksDuring } = await listening(t, engine, { users: 2, pagesEach: 1 })
      const { body } = await sendRequest(stage, 0)
      await stage.decide(await stage.newestRequest('user-0'), 'approved', { login_hint: 'user-0' })
      await until(() => pages[0]!.changes > 0)
      await stage.doorbell.idle()
      const looks = await looksDuring(async () => {
        assert.equal((await stage.poll('kiosk', body.auth_req_id)).status, 200)
        await sendRequest(stage, 1)
        await until(() => pages[1]!.changes === 1)
      })
      assert.equal(looks, 1)
    })

    test("a page's stream ends with its session", async (t) => {
      const { stage, pages } = await listening(t, engine, { users: 1, pagesEach: 2 })
      stage.clock.advance(26_000)
      assert.deepEqual(
        pages.map(({ isOpen }) => isOpen),
        [true, true],
      )
      stage.clock.advance(24 * 3600_000)
      await until(() => pages.every(({ isOpen }) => !isOpen))
    })
  })
}

test('a change at one node costs one read at the node that has the pages, and none at the other', async (t) => {
  const postgres = engines.find(({ name }) => name === 'postgres')!
  const { stage, options, pages, looksDuring } = await listening(t, postgres, { users: 10, pagesEach: 10 })
  const atOther = countLooks()
  const other = await openNeighbour(t, stage, options, { openDatabase: atOther.openDatabase })
  const looks = await looksDuring(async () => {
    const form = { scope: 'openid', login_hint: 'user-4', client_notification_token: newNotificationToken() }
    assert.equal((await other.post('/backchannel/authorize', form, credentials.northbank)).status, 200)
    await until(() => pages.filter(({ changes }) => changes === 1).length === 10)
  })
  assert.deepEqual([looks, atOther.looks()], [1, 0])
})

test('other listeners on the database learn that something changed, but not for which user', async (t) => {
  const postgres = engines.find(({ name }) => name === 'postgres')!
  const { stage } = await openHouse(t, postgres, 2)
  const other = new Client({ connectionString: stage.database })
  const payloads: string[] = []
  other.on('notification', ({ payload = '' }) => payloads.push(payload))
  await other.connect()
  await other.query('listen doorbell')
  for (const number of [0, 0, 1]) await sendRequest(stage, number)
  await until(() => payloads.length >= 3)
  await other.end()
  const text = payloads.join()
  const keys = [...text.matchAll(/\["user_requests","([^"]+)"\]/g)].map(([, key]) => key)
  assert.deepEqual([keys.length, new Set(keys).size], [3, 2])
  assert.ok(!text.includes('user-') && keys.every((key) => !fingerprint('user-0').startsWith(String(key))), text)
})

for (const engine of engines) {
  describe(`the number of pages that listen, on ${engine.name}`, () => {
    const limits = (streams: { perSession?: number; perUser?: number; inAll?: number }): ConfigInput => ({
      limits: { streams },
    })

    test('is limited for each user, over all sessions; a closed page makes room', async (t) => {
      const { stage } = await openHouse(t, engine, 2, limits({ perSession: 2, perUser: 3 }))
      const sessions = [await signIn(stage, 0), await signIn(stage, 0), await signIn(stage, 0)]
      const open = async (session: string) => (await openPage(t, stage, session)).status
      const first = await openPage(t, stage, sessions[0]!)
      assert.deepEqual([first.status, await open(sessions[0]!), await open(sessions[0]!)], [200, 200, 429])
      assert.deepEqual([await open(sessions[1]!), await open(sessions[1]!), await open(sessions[2]!)], [200, 429, 429])
      assert.equal(await open(await signIn(stage, 1)), 200, 'others have their own')
      first.close()
      await until(async () => (await open(sessions[2]!)) === 200)
    })

    test('is the same for a user with twenty-five sessions, who opens a thousand pages', async (t) => {
      const { stage } = await openHouse(t, engine, 1, limits({}))
      const sessions: string[] = []
      while (sessions.length < 25) sessions.push(await signIn(stage, 0))
      const thousand = Array.from({ length: 1000 }, (_, number) => sessions[number % 25]!)
      const pages = await Promise.all(thousand.map((session) => openPage(t, stage, session)))
      assert.equal(pages.filter(({ status }) => status === 200).length, 20)
      assert.equal(pages.filter(({ status }) => status === 429).length, 980)
    })
  })
}

/** Users 0, 1, 2 … of an application that accepts any password. */
async function openHouse(t: TestContext, engine: Engine, users: number, config: ConfigInput = {}) {
  const known = new Set(Array.from({ length: users }, (_, number) => `user-${number}`))
  const find = async (id: string) => (known.has(id) ? { id, username: id } : null)
  const { openDatabase, looks } = countLooks()
  const options = {
    engine,
    config: {
      users: { find, findByHint: ({ value }: { value: string }) => find(value), verifyPassword: async () => true },
      ...config,
    },
  }
  const stage = await openStage(t, { ...options, parts: { openDatabase } })
  const looksDuring = async (work: () => Promise<unknown>) => {
    const before = looks()
    await work()
    return looks() - before
  }
  return { stage, options, looks, looksDuring }
}

async function listening(t: TestContext, engine: Engine, { users, pagesEach }: { users: number; pagesEach: number }) {
  const streams = { perSession: pagesEach, perUser: pagesEach }
  const house = await openHouse(t, engine, users, { limits: { streams } })
  const sessions = await signInMany(house.stage, users)
  // Another process wrote the sessions. On SQLite, the server must notice this before the pages open, so the clock is
  // advanced.
  house.stage.clock.advance(2_000)
  // The page that was shown after the sign-in has also read the requests.
  const before = house.looks()
  let pages: Page[] = []
  const opening = await house.looksDuring(async () => {
    const listed = sessions.flatMap((session) => Array.from({ length: pagesEach }, () => session))
    pages = await Promise.all(listed.map((session) => openPage(t, house.stage, session)))
    await until(() => house.looks() - before >= users)
  })
  assert.ok(pages.every(({ status }) => status === 200))
  return { ...house, pages, opening }
}

/** How often the database was asked for pending requests of a user. */
function countLooks() {
  let looks = 0
  const isLook = (sql: string) => /from backchannel_auth_requests where user_id = \$1 and status = 'pending'/.test(sql)
  const open: typeof openDatabase = async (...given) => {
    const database = await openDatabase(...given)
    const { read } = database
    database.read = (sql, values) => {
      if (isLook(sql)) looks += 1
      return read(sql, values)
    }
    return database
  }
  return { openDatabase: open, looks: () => looks }
}

/** @returns the cookies */
async function signIn(stage: Stage, number: number): Promise<string> {
  const visitor = openVisitor(stage.url)
  await visitor.signIn({ username: `user-${number}`, password: 'any' })
  return [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
}

/**
 * One user really signs in. The other users get copies of this session with their own ids, because a sign-in takes
 * longer than the rest of the test.
 */
async function signInMany(stage: Stage, users: number): Promise<string[]> {
  const { clock, database: url } = stage
  const cookies = createCookies({ issuer: 'http://localhost', vault, clock })
  const session = cookies.openSession((await signIn(stage, 0)).split('doorbell_app=')[1]?.split(';')[0])!
  const database = await openDatabase(url, { clock, log: createLog('silent') })
  const models = createOidcModelStore(database)
  const tokens = createAdapterFactory({
    places: { ended() {} },
    knownTokens: { add() {} },
    makeRoomForSession: async () => undefined,
    narrow: async (_model, payload) => payload,
    keepsStrangers: false,
    models,
    vault,
    clock,
    findClient: async () => undefined,
  })('AccessToken')
  // The copies have no grant, because a grant belongs to one user.
  const { expiresWithSession, grantId, ...token } = (await tokens.find(session.accessToken))!
  const all = await Promise.all(
    Array.from({ length: users }, async (_, number) => {
      const [userId, accessToken] = [`user-${number}`, newSecret()]
      await tokens.upsert(accessToken, { ...token, accountId: userId, jti: accessToken }, 600)
      return `doorbell_app=${cookies.sealSession({ ...session, userId, accessToken })}`
    }),
  )
  await database.close()
  return all
}

const sendRequest = (stage: Stage, number: number, more: Record<string, string> = {}) =>
  stage.ring('kiosk', { login_hint: `user-${number}`, ...more })

interface Page {
  status: number
  /** How often the page was notified of a change. */
  changes: number
  isOpen: boolean
  close(): void
}

async function openPage(t: TestContext, stage: Stage, cookie: string): Promise<Page> {
  const stop = new AbortController()
  t.after(() => stop.abort())
  const { status, body } = await fetch(`${stage.url}/events`, { headers: { cookie }, signal: stop.signal })
  const page = { status, changes: 0, isOpen: status === 200, close: () => stop.abort() }
  void read(body!, page).catch(() => {})
  return page
}

async function read(body: ReadableStream<Uint8Array>, page: Page): Promise<void> {
  for await (const text of body.pipeThrough(new TextDecoderStream() as never) as never as AsyncIterable<string>) {
    page.changes += text.split('event: changed').length - 1
  }
  page.isOpen = false
}
