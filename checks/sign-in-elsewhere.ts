/**
 * Signs people in to a Doorbell server at another OpenID provider, in Chromium, and prints a line for each thing that
 * was seen. The checks of the single providers start the provider, and call `checkSignIn`.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type Browser, chromium, type Page } from 'playwright-core'
import type { ConfigInput } from '../src/config/config.ts'
import { loadConfig } from '../src/config/load.ts'
import { createDoorbell, type Doorbell } from '../src/doorbell.ts'
import { newSecret } from '../src/platform/crypto.ts'
import { createLog } from '../src/platform/log.ts'
import type { UserHint, UserHooks } from '../src/user/user.ts'
import { findChromium } from '../test/support/chromium-program.ts'

/** A person with an account at the other provider. */
export interface Person {
  email: string
  /** Whether the provider has verified the address. */
  isVerified: boolean
  password: string
}

/** A running provider at which Doorbell is registered. */
export interface OtherProvider {
  name: string
  login: { issuer: string; client_id: string; client_secret: string }
  /** Has the name Dora and a verified address. */
  dora: Person
  /** Has the name Finn and an address that is not verified. */
  finn: Person
  /** Whether the page is the sign-in page of the provider. */
  isSignInPage(page: Page): Promise<boolean>
  /** Fills in and submits the sign-in page of the provider. */
  signIn(page: Page, person: Person): Promise<void>
  stop(): Promise<void>
}

const CIBA = 'urn:openid:params:grant-type:ciba'
const kiosk = { client_id: 'kiosk', client_secret: newSecret() }
/** The pages are in the language that the provider states for the person. So elements are not found by their texts. */
const signOutButton = 'form[action="/session/end"] button'

interface Scene {
  url: string
  provider: OtherProvider
  browser: Browser
  logLines: string[]
}

/** @param port the port of Doorbell; the provider knows the redirect URI with this port */
export async function checkSignIn(provider: OtherProvider, port: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-check-'))
  const browser = await chromium.launch({
    executablePath: findChromium() ?? 'chromium',
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  })
  const logLines: string[] = []
  const scene = { url: `http://localhost:${port}`, provider, browser, logLines }
  const open = (more: ConfigInput) => openDoorbell(scene, { port, database: `sqlite:${folder}/doorbell.db`, ...more })
  let doorbell = await open({ login: { ...provider.login, createUsers: true } })
  try {
    console.log(provider.name)
    const page = await openPage(scene)
    const id = await becomesUser(scene, page)
    await approves(scene, page, id)
    await signsOut(scene, page, id)
    await hasNoAddress(scene)
    await doorbell.close()
    const hints: UserHint[] = []
    doorbell = await open({ login: provider.login, users: hooksWith(hints, provider.dora) })
    await reachesHook(scene, hints)
  } catch (error) {
    console.error(logLines.join('\n'))
    throw error
  } finally {
    await browser.close()
    await doorbell.close()
    await rm(folder, { recursive: true, force: true })
    await provider.stop()
  }
}

async function openDoorbell({ logLines }: Scene, more: ConfigInput): Promise<Doorbell> {
  const clients = [{ ...kiosk, client_name: 'Kiosk', backchannel_token_delivery_mode: 'poll' as const }]
  const config = await loadConfig({ env: {}, overrides: { development: true, secret, clients, users: [], ...more } })
  const doorbell = await createDoorbell(config, {
    log: createLog('info', { write: (line) => void logLines.push(line) }),
  })
  await doorbell.listen()
  return doorbell
}

const secret = newSecret()

/** The users of an application, as in the guide: a person is found by a verified address. */
function hooksWith(hints: UserHint[], { email }: Person): UserHooks {
  const dora = { id: 'dora-of-the-application', email, name: 'Dora' }
  return {
    find: async (id) => (id === dora.id ? dora : null),
    async findByHint(hint) {
      hints.push(hint)
      return hint.claims?.email_verified === true && hint.claims.email === email ? dora : null
    },
  }
}

async function openPage({ browser }: Scene): Promise<Page> {
  const context = await browser.newContext({ locale: 'en' })
  context.setDefaultTimeout(20_000)
  return context.newPage()
}

async function reachesSignInPage({ provider }: Scene, page: Page): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    if (await provider.isSignInPage(page).catch(() => false)) return
    await pause(100)
  }
  throw new Error(`not the sign-in page of ${provider.name}: ${page.url()}`)
}

/** Opens Doorbell, and signs in at the provider. Resolves when the browser is back. */
async function signIn(scene: Scene, page: Page, person: Person): Promise<void> {
  await page.goto(scene.url)
  await reachesSignInPage(scene, page)
  await scene.provider.signIn(page, person)
  await page.waitForURL(`${scene.url}/**`)
}

async function becomesUser(scene: Scene, page: Page): Promise<string> {
  await signIn(scene, page, scene.provider.dora)
  await page.locator(signOutButton).waitFor()
  const [added] = eventsOf(scene, 'user.added')
  assert.equal(added?.by, 'another provider')
  seen(`Dora signs in and becomes the user ${added!.user}`)
  return String(added!.user)
}

async function approves(scene: Scene, page: Page, id: string): Promise<void> {
  const { auth_req_id } = await post(scene, '/backchannel/authorize', {
    scope: 'openid profile email',
    login_hint: scene.provider.dora.email,
    binding_message: 'Coffee 4.20',
  })
  await page.goto(`${scene.url}/`)
  await page.locator('a[href^="/approve/"]').click()
  await page.locator('button[name=decision][value=approve]').click()
  await page.waitForLoadState()
  const tokens = await post(scene, '/oauth/token', { grant_type: CIBA, auth_req_id: String(auth_req_id) })
  const claims = claimsOf(String(tokens.id_token))
  assert.equal(claims.sub, id)
  seen(`the kiosk asks ${scene.provider.dora.email}; she approves; the ID token: ${JSON.stringify(claims)}`)
}

async function signsOut(scene: Scene, page: Page, id: string): Promise<void> {
  await page.goto(`${scene.url}/`)
  await page.locator(signOutButton).click()
  await page.locator('a[href="/session/start"]').click()
  await reachesSignInPage(scene, page)
  seen(
    '“Sign out” leads to a page of Doorbell; after its “Sign in”, the provider asks her to sign in again, although its own session goes on',
  )
  await signIn(scene, page, scene.provider.dora)
  await page.locator(signOutButton).waitFor()
  assert.equal(eventsOf(scene, 'sign_in.succeeded').at(-1)?.user, id)
  assert.equal(eventsOf(scene, 'user.added').length, 1)
  seen('the second sign-in is the same user')
}

async function hasNoAddress(scene: Scene): Promise<void> {
  const { finn } = scene.provider
  await signIn(scene, await openPage(scene), finn)
  const id = String(eventsOf(scene, 'user.added').at(-1)?.user)
  assert.equal(eventsOf(scene, 'sign_in.succeeded').at(-1)?.user, id)
  const ask = (login_hint: string) => post(scene, '/backchannel/authorize', { scope: 'openid', login_hint })
  assert.equal((await ask(finn.email)).error, 'unknown_user_id')
  assert.ok((await ask(id)).auth_req_id)
  seen('Finn, whose address is not verified, becomes a user without an address')
}

async function reachesHook(scene: Scene, hints: UserHint[]): Promise<void> {
  const page = await openPage(scene)
  await signIn(scene, page, scene.provider.dora)
  await page.locator(signOutButton).waitFor()
  assert.equal(eventsOf(scene, 'sign_in.succeeded').at(-1)?.user, 'dora-of-the-application')
  seen(`the hook of an application finds her by the claims ${JSON.stringify(hints[0]?.claims)}`)
}

async function post({ url }: Scene, path: string, form: Record<string, string>): Promise<Record<string, unknown>> {
  const authorization = `Basic ${Buffer.from(`${kiosk.client_id}:${kiosk.client_secret}`).toString('base64')}`
  const body = new URLSearchParams(form)
  const answer = await fetch(url + path, { method: 'POST', headers: { authorization }, body })
  return (await answer.json()) as Record<string, unknown>
}

function eventsOf({ logLines }: Scene, name: string): Record<string, unknown>[] {
  return logLines.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ event }) => event === name)
}

function claimsOf(jwt: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(jwt.split('.')[1]!, 'base64url').toString()) as Record<string, unknown>
}

function seen(text: string): void {
  console.log(`  ✓ ${text}`)
}
