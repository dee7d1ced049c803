/**
 * A user signs in at another provider, and is signed out or locked here during that sign-in. The sign-in gives no
 * access.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEndUser } from '../../src/endings/end-user.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { openBrowser } from '../support/browser.ts'
import { engines } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { ana, openStage } from '../support/stage.ts'

const client = { client_id: 'house-app', client_secret: 'the secret of the house app' }

for (const engine of engines) {
  for (const ending of ['locked', 'signed_out'] as const) {
    test(`a user who is ${ending} while the token of the sign-in is stored has no session, on ${engine.name}`, async (t) => {
      const port = await freePort()
      const url = `http://localhost:${port}`
      const verified = { ...ana, id: 'customer-4711', claims: { email_verified: true } }
      const clients = [{ ...client, redirect_uris: [`${url}/session/callback`] }]
      const bank = await openStage(t, { config: { clients, users: [verified] as never } })
      let endFirst: (() => Promise<boolean>) | undefined
      let hasEnded = false
      let opened: Database | undefined
      const open: typeof openDatabase = async (...given) => {
        const database = await openDatabase(...given)
        opened = database
        const { step } = database
        database.step = async (first, options) => {
          const isToken =
            'rows' in first && first.rows?.some((row) => (row as { model?: string }).model === 'AccessToken')
          const end = isToken ? endFirst : undefined
          if (end !== undefined) {
            endFirst = undefined
            hasEnded = await end()
          }
          return step(first, options)
        }
        return database
      }
      const login = { issuer: bank.url, client_id: client.client_id, client_secret: client.client_secret }
      const house = await openStage(t, { engine, port, config: { login, users: [] }, parts: { openDatabase: open } })
      const { clock } = house
      const users = createUserStore(opened!)
      await users.add({ id: 'ana-here', email: ana.email, username: 'ana' }, clock.now())
      const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
      const endUser = createEndUser({ database: opened!, vault, clock, log: createLog('silent'), audit: () => {} })
      endFirst = () => endUser('ana-here', ending, { mustBe: 'added', by: 'command' })

      const [houseBrowser, bankBrowser] = [openBrowser(house.url), openBrowser(bank.url)]
      const sentTo = await houseBrowser.open(`${house.url}/`)
      const signInPage = await bankBrowser.open(sentTo.url)
      const consent = await bankBrowser.submit(signInPage, { name: ana.username, password: ana.password })
      await houseBrowser.open((await bankBrowser.submit(consent)).url)
      assert.equal(hasEnded, true)
      if (ending === 'locked') await users.unlock('ana-here', clock.now())
      const later = await houseBrowser.open(`${house.url}/`)
      assert.ok(later.url.startsWith(bank.url), `the user has to sign in again: ${later.url}`)
    })
  }
}
