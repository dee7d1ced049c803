/** With `login.createUsers`, a person who first signs in at another provider becomes a user here, exactly once. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createEndUser, erasedAs } from '../../src/endings/end-user.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { externalUserId } from '../../src/user/external-user-id.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { type Browser, openBrowser, type Page } from '../support/browser.ts'
import { type Engine, engines } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'

const client = { client_id: 'house-app', client_secret: 'the secret of the house app' }
const secret = Buffer.alloc(32, 7).toString('base64url')

const dora = {
  id: 'customer-4712',
  username: 'dora',
  email: 'Dora@Example.com',
  name: 'Dora',
  locale: 'de-AT',
  password: 'dora-of-the-bank',
  claims: { email_verified: true },
}
type Person = Omit<typeof dora, 'claims'> & { claims?: object }

interface Both {
  bank: Stage
  house: Stage
}

/** Two providers: persons sign in at the provider `bank`, and become users of the provider `house`. */
async function openBoth(t: TestContext, engine: Engine, people: Person[] = [dora]): Promise<Both> {
  const port = await freePort()
  const bank = await openBank(t, `http://localhost:${port}`, people)
  return { bank, house: await openStage(t, { engine, port, config: { login: loginAt(bank), users: [ana] } }) }
}

function openBank(t: TestContext, house: string, people: Person[]): Promise<Stage> {
  const clients = [{ ...client, redirect_uris: [`${house}/session/callback`] }]
  return openStage(t, { config: { clients, users: people as never } })
}

const loginAt = (bank: Stage, createUsers = true) => ({
  issuer: bank.url,
  client_id: client.client_id,
  client_secret: client.client_secret,
  createUsers,
})

/** Signs a person in at the bank, up to the redirect back to the house. */
async function signInAtBank({ bank, house }: Both, who: Person): Promise<{ browser: Browser; backTo: string }> {
  const [browser, bankBrowser] = [openBrowser(house.url), openBrowser(bank.url)]
  const signInPage = await bankBrowser.open((await browser.open(`${house.url}/`)).url)
  const consent = await bankBrowser.submit(signInPage, { name: who.username, password: who.password })
  return { browser, backTo: (await bankBrowser.submit(consent)).url }
}

async function signIn(both: Both, who: Person): Promise<Page> {
  const { browser, backTo } = await signInAtBank(both, who)
  return browser.open(backTo)
}

const usersOf = ({ house }: Both) => createUserStore(house.serverDatabase).list()

function eventsOf({ house }: Both, name: string): Record<string, unknown>[] {
  const lines = house.logLines.map((line) => JSON.parse(line) as Record<string, unknown>)
  return lines.filter(({ event }) => event === name)
}

async function end({ house }: Both, userId: string, ending: 'locked' | 'removed' | 'erased') {
  const { serverDatabase: database, clock } = house
  const needs = { database, vault: createVault(secret), clock, log: createLog('silent'), audit: () => {} }
  assert.equal(await createEndUser(needs)(userId, ending, { mustBe: 'added', by: 'command' }), true)
}

for (const engine of engines) {
  describe(`users who are created at their first sign-in, on ${engine.name}`, () => {
    test('Dora signs in for the first time, is asked by the kiosk, and finds the request', async (t) => {
      const both = await openBoth(t, engine)
      const { browser, backTo } = await signInAtBank(both, dora)
      assert.equal((await browser.open(backTo)).status, 200)
      const id = externalUserId(both.bank.url, dora.id)
      const user = { id, email: 'dora@example.com', name: 'Dora', locale: 'de-AT', disabled: false }
      assert.deepEqual(await usersOf(both), [user])
      assert.deepEqual(
        eventsOf(both, 'user.added').map(({ user, by }) => [user, by]),
        [[id, 'another provider']],
      )

      for (const hint of [
        'dora@example.com',
        id,
        JSON.stringify({ format: 'iss_sub', iss: both.bank.url, sub: dora.id }),
      ]) {
        assert.equal((await both.house.ring('kiosk', { login_hint: hint })).status, 200, hint)
      }
      const page = await browser.open(`${both.house.url}/`)
      assert.equal(page.text.match(/Coffee 4\.20/g)?.length, 3)

      assert.equal((await signIn(both, dora)).status, 200)
      assert.equal((await usersOf(both)).length, 1)
      assert.equal(eventsOf(both, 'user.added').length, 1)
    })

    test('two tabs that finish at once make one user, and both are signed in', async (t) => {
      const both = await openBoth(t, engine)
      const tabs = await Promise.all(Array.from({ length: 5 }, () => signInAtBank(both, dora)))
      const pages = await Promise.all(tabs.map(({ browser, backTo }) => browser.open(backTo)))
      assert.deepEqual(
        pages.map(({ status }) => status),
        [200, 200, 200, 200, 200],
      )
      assert.equal((await usersOf(both)).length, 1)
      assert.equal(eventsOf(both, 'user.added').length, 1)
    })

    for (const ending of ['locked', 'removed', 'erased'] as const) {
      test(`a user who was ${ending} here cannot sign in, and is not created again`, async (t) => {
        const both = await openBoth(t, engine)
        await signIn(both, dora)
        const id = externalUserId(both.bank.url, dora.id)
        await end(both, id, ending)
        const page = await signIn(both, dora)
        assert.equal(page.status, 403)
        assert.equal((await usersOf(both)).length, ending === 'locked' ? 1 : 0)
        const failed = eventsOf(both, 'sign_in.failed').map(({ user, outcome }) => [user, outcome])
        assert.deepEqual(failed, [[id, 'user_unavailable']])

        if (ending === 'locked') return
        const isSamePerson = true
        const usedIds = [id, erasedAs(id, createVault(secret))]
        await createUserStore(both.house.serverDatabase).add({ id }, both.house.clock.now(), { isSamePerson, usedIds })
        assert.equal((await signIn(both, dora)).status, 200, 'the operator has added the same person again')
      })
    }

    test('the same sub at another provider is another user', async (t) => {
      const both = await openBoth(t, engine)
      await signIn(both, dora)
      const eve = { ...dora, username: 'eve', email: 'eve@example.com', name: 'Eve' }
      const other = await openBank(t, both.house.url, [eve])
      await both.house.restart({ login: loginAt(other) })
      assert.equal((await signIn({ bank: other, house: both.house }, eve)).status, 200)
      const ids = [externalUserId(both.bank.url, dora.id), externalUserId(other.url, dora.id)]
      assert.deepEqual((await usersOf(both)).map(({ id }) => id).sort(), ids.sort())
    })

    test('a person to whom the provider gives the address of a created user is not that user', async (t) => {
      const finn = { ...dora, id: 'customer-9', username: 'finn', name: 'Finn' }
      const both = await openBoth(t, engine)
      await signIn(both, dora)
      await both.bank.restart({ users: [finn] })
      for (const createUsers of [true, false]) {
        await both.house.restart({ login: loginAt(both.bank, createUsers) })
        assert.equal((await signIn(both, finn)).status, 403)
        assert.deepEqual(eventsOf(both, 'sign_in.failed').at(-1)?.outcome, 'address_taken')
      }
      assert.equal((await usersOf(both)).length, 1)
    })
  })
}

describe('the users who are not created, or with fewer claims', () => {
  const [engine] = engines as [Engine]

  test('a user with the verified address, added before, is found and no second one is created', async (t) => {
    const both = await openBoth(t, engine, [{ ...dora, email: ana.email }])
    assert.equal((await signIn(both, dora)).status, 200)
    assert.deepEqual(await usersOf(both), [])
    assert.equal(eventsOf(both, 'sign_in.succeeded').at(-1)?.user, ana.id)
  })

  test('an address that is not verified is not taken over, not even that of another user', async (t) => {
    const both = await openBoth(t, engine, [{ ...dora, email: ana.email, claims: { email_verified: false } }])
    assert.equal((await signIn(both, dora)).status, 200)
    const [user] = await usersOf(both)
    assert.deepEqual([user?.email, user?.name], [undefined, 'Dora'])
  })

  test('a verified address that is the login name of a user here creates nobody', async (t) => {
    const both = await openBoth(t, engine)
    await createUserStore(both.house.serverDatabase).add({ id: 'd', username: 'dora@example.com' }, 0)
    const page = await signIn(both, dora)
    assert.equal(page.status, 403)
    assert.deepEqual(
      (await usersOf(both)).map(({ id }) => id),
      ['d'],
    )
  })

  test('users who were created still sign in after the setting is switched off, others do not', async (t) => {
    const finn = { ...dora, id: 'customer-9', username: 'finn', email: 'finn@example.com' }
    const both = await openBoth(t, engine, [{ ...dora, claims: {} }, finn])
    await signIn(both, dora)
    await both.house.restart({ login: loginAt(both.bank, false) })
    assert.equal((await signIn(both, dora)).status, 200)
    assert.equal((await signIn(both, finn)).status, 403)
  })
})
