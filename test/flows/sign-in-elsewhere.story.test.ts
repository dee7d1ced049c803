import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { UserHooks } from '../../src/user/user.ts'
import { openBrowser } from '../support/browser.ts'
import { freePort } from '../support/ports.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'

const client = { client_id: 'house-app', client_secret: 'the secret of the house app' }

/** Two providers: users sign in at the provider `bank`, and decide at the provider `house`. */
const verified = { ...ana, id: 'customer-4711', claims: { email_verified: true } }

async function openBoth(
  t: TestContext,
  bankUsers: object[] | UserHooks = [verified],
  houseUsers?: UserHooks,
): Promise<{ bank: Stage; house: Stage }> {
  const port = await freePort()
  const house = `http://localhost:${port}`
  const bank = await openStage(t, {
    config: { clients: [{ ...client, redirect_uris: [`${house}/session/callback`] }], users: bankUsers as never },
  })
  const login = { issuer: bank.url, client_id: client.client_id, client_secret: client.client_secret }
  return { bank, house: await openStage(t, { port, config: { login, ...(houseUsers && { users: houseUsers }) } }) }
}

/** Signs a user in to `house` through the pages of `bank`. */
async function signInAtBank(bank: Stage, house: Stage, who: { username: string; password: string }, to: string) {
  const [houseBrowser, bankBrowser] = [openBrowser(house.url), openBrowser(bank.url)]
  const sentTo = await houseBrowser.open(`${house.url}${to}`)
  assert.ok(sentTo.url.startsWith(`${bank.url}/oauth/authorize`), sentTo.url)
  const signInPage = await bankBrowser.open(sentTo.url)
  const consentPage = await bankBrowser.submit(signInPage, { name: who.username, password: who.password })
  const cameBack = await bankBrowser.submit(consentPage)
  assert.ok(cameBack.url.startsWith(`${house.url}/session/callback`), cameBack.url)
  return houseBrowser.open(cameBack.url)
}

describe('users sign in at another provider', () => {
  test('Ana signs in at her bank and sees her pending requests here', async (t) => {
    const { bank, house } = await openBoth(t)
    await house.ring('kiosk')
    const id = await house.newestRequest()

    const page = await signInAtBank(bank, house, ana, `/approve/${id}`)

    assert.equal(page.status, 200)
    assert.equal(new URL(page.url).pathname, `/approve/${id}`)
    assert.match(page.text, /Coffee 4\.20/)
    assert.match(page.text, /Kiosk/)
  })

  test('a user known only to the bank cannot sign in here', async (t) => {
    const eve = { id: 'user-eve', username: 'eve', email: 'eve@example.com', name: 'Eve', password: 'eve-of-the-bank' }
    const { bank, house } = await openBoth(t, [eve])
    await house.ring('kiosk')
    const id = await house.newestRequest()

    const page = await signInAtBank(bank, house, eve, `/approve/${id}`)

    assert.equal(page.status, 403)
    assert.doesNotMatch(page.text, /Coffee|Kiosk/)
  })

  const pretenders = {
    'with the id of a user here': { id: ana.id, username: 'mallory', email: 'mallory@example.com' },
    'with an address that the bank has not verified': { id: 'm', username: 'mallory', email: ana.email },
  }
  for (const [how, pretender] of Object.entries(pretenders)) {
    test(`sign-in is refused ${how}`, async (t) => {
      const mallory = { ...pretender, password: 'mallory-of-the-bank' }
      const { bank, house } = await openBoth(t, [mallory])
      const page = await signInAtBank(bank, house, mallory, '/')
      assert.equal(page.status, 403)
    })
  }

  for (const [what, name] of [
    ['NUL', 'A\0na'],
    ['half of a character', 'A\ud800na'],
  ] as const) {
    test(`claims of the other provider with ${what} reach no hook, and sign nobody in`, async (t) => {
      const asked: (string | undefined)[] = []
      const house: UserHooks = {
        find: async (id) => ({ id }),
        async findByHint({ claims }) {
          asked.push(claims?.name as string | undefined)
          return { id: ana.id, name: 'Ana' }
        },
      }
      const both = await openBoth(t, hooksOf({ ...verified, name: 'Ana' }), house)
      assert.equal((await signInAtBank(both.bank, both.house, ana, '/')).status, 200)
      assert.deepEqual(asked, ['Ana'])
      const other = await openBoth(t, hooksOf({ ...verified, name }), house)
      assert.equal((await signInAtBank(other.bank, other.house, ana, '/')).status, 403)
      assert.deepEqual(asked, ['Ana'], 'not asked again')
    })
  }
})

/** Hooks with one user, whose claims are not checked, in contrast to those of a configured user. */
const hooksOf = ({ password, ...user }: typeof verified): UserHooks => ({
  find: async () => user,
  findByHint: async () => user,
  verifyPassword: async (_user, given) => given === password,
})
