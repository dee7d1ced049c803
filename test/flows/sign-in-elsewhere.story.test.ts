import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
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
  method: 'client_secret_basic' | 'client_secret_post' = 'client_secret_basic',
): Promise<{ bank: Stage; house: Stage }> {
  const port = await freePort()
  const house = `http://localhost:${port}`
  const bank = await openStage(t, {
    config: {
      clients: [{ ...client, redirect_uris: [`${house}/session/callback`], token_endpoint_auth_method: method }],
      users: bankUsers as never,
    },
  })
  const login = {
    issuer: bank.url,
    client_id: client.client_id,
    client_secret: client.client_secret,
    token_endpoint_auth_method: method,
  }
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

  test('the secret may be sent in the body, to a provider that accepts it only there', async (t) => {
    const { bank, house } = await openBoth(t, [verified], undefined, 'client_secret_post')
    assert.equal((await signInAtBank(bank, house, ana, '/')).status, 200)
  })

  test('a user known only to the bank cannot sign in here', async (t) => {
    const eve = { id: 'user-eve', username: 'eve', email: 'eve@example.com', name: 'Eve', password: 'eve-of-the-bank' }
    const { bank, house } = await openBoth(t, [eve])
    await house.ring('kiosk')
    const id = await house.newestRequest()

    const page = await signInAtBank(bank, house, eve, `/approve/${id}`)

    assert.equal(page.status, 403)
    assert.doesNotMatch(page.text, /Coffee|Kiosk/)
    assert.match(
      page.text,
      /<h1[^>]*>No account here<\/h1>\s*<p>You have signed in, but your account is not known here\./,
    )
    assert.match(page.text, /Use another account<\/a>/)
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

describe('the other provider', () => {
  for (const [what, answer] of [
    ['cannot be reached', undefined],
    ['fails', { status: 502, body: '<h1>Bad gateway</h1>' }],
    ['is not at this address', { status: 404, body: '{}' }],
    ['has another issuer', { status: 200, body: '{"issuer":"https://another.example"}' }],
    ['does not answer in JSON', { status: 200, body: 'hello' }],
  ] as const) {
    test(`${what}: a page says so, the log has the reason, and the sign-in works as soon as it is back`, async (t) => {
      const port = await freePort()
      const login = {
        issuer: `http://localhost:${port}`,
        client_id: client.client_id,
        client_secret: client.client_secret,
      }
      const house = await openStage(t, { config: { login } })
      const broken = answer && (await brokenProvider(t, port, answer))
      const page = await openBrowser(house.url).open(house.url)
      assert.equal(page.status, 503)
      assert.equal(page.headers.get('retry-after'), '10')
      assert.match(page.text, /The service at which you sign in cannot be reached at the moment\. Please try again/)
      const { status, body } = await house.get('/session/start')
      assert.deepEqual([status, body.error], [503, 'temporarily_unavailable'])
      assert.match(
        house.logLines.join('\n'),
        /"detail":"the provider (for sign-ins (cannot be reached: |answered with status 502 at )|http.* cannot be discovered")/,
      )
      await broken?.close()
      await openStage(t, {
        port,
        config: {
          clients: [{ ...client, redirect_uris: [`${house.url}/session/callback`] }],
          users: [verified] as never,
        },
      })
      assert.ok((await openBrowser(house.url).open(house.url)).url.startsWith(`${login.issuer}/oauth/authorize`))
    })
  }

  test('stops between the sign-in and the return: a page says so, and loading it again finishes the sign-in', async (t) => {
    const { bank, house } = await openBoth(t)
    const [houseBrowser, bankBrowser] = [openBrowser(house.url), openBrowser(bank.url)]
    const signInPage = await bankBrowser.open((await houseBrowser.open(house.url)).url)
    const consentPage = await bankBrowser.submit(signInPage, { name: ana.username, password: ana.password })
    const cameBack = await bankBrowser.submit(consentPage)
    await bank.doorbell.close()
    const page = await houseBrowser.open(cameBack.url)
    assert.equal(page.status, 503)
    assert.match(page.text, /The service at which you sign in cannot be reached/)
    await bank.restart()
    const again = await houseBrowser.open(cameBack.url)
    assert.deepEqual([again.status, again.url], [200, `${house.url}/`])
  })
})

async function brokenProvider(t: TestContext, port: number, { status, body }: { status: number; body: string }) {
  const server = createServer((_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(body)
  })
  server.listen(port, 'localhost')
  await once(server, 'listening')
  t.after(() => server.close())
  return { close: () => new Promise((resolve) => server.close(resolve)) }
}

/** Hooks with one user, whose claims are not checked, in contrast to those of a configured user. */
const hooksOf = ({ password, ...user }: typeof verified): UserHooks => ({
  find: async () => user,
  findByHint: async () => user,
  verifyPassword: async (_user, given) => given === password,
})
