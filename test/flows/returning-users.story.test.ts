/**
 * Anonymous calls from many networks hold all slots that they may have. Users who have signed in before are still
 * served: they renew the token of their session and open the list of requests, and their apps refresh. One user cannot
 * take the slots of the others.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { codeFor, signIn } from '../support/phone-app.ts'
import { callWith } from '../support/proofs.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'
import { inTime, until } from '../support/until.ts'
import { openVisitor } from '../support/visitor.ts'

const slots = 16
/** Unproven callers may have three quarters of the slots. */
const ofStrangers = 12

const pocketApp = {
  client_id: 'pocket-app',
  application_type: 'native' as const,
  token_endpoint_auth_method: 'none' as const,
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: ['http://127.0.0.1/callback'],
  scope: 'openid offline_access ciba:decide',
}
const decidesOffline = { scope: pocketApp.scope, prompt: 'consent' }

/**
 * Opens a server with sixteen slots, behind a proxy. By default, each call comes from a network of its own. While the
 * gate is closed, reads of unknown clients and reads that match `alsoHeld` wait.
 */
async function scene(t: TestContext, engine: Engine, alsoHeld = /nothing/) {
  const gate = createGate()
  const open: typeof openDatabase = async (...given) => {
    const database = await openDatabase(...given)
    const { read } = database
    database.read = async (sql, values = []) => {
      const isUnknown = sql.includes('from clients where id') && String(values[0]).startsWith('unknown')
      if (isUnknown || alsoHeld.test(sql)) await gate.pass()
      return read(sql, values)
    }
    return database
  }
  const proxy = { trust: ['127.0.0.1', '::1'] }
  const config = { limits: { inFlight: slots }, proxy, clients: [pocketApp] }
  const stage = await openStage(t, { engine, config, parts: { openDatabase: open } })
  let network = 0
  const from = () => {
    network += 1
    return { 'x-forwarded-for': `10.${network >> 8}.${network & 255}.7` }
  }
  const all: Promise<unknown>[] = []
  closeAfter(t, async () => {
    gate.release()
    await Promise.allSettled(all)
  })
  return {
    stage,
    gate,
    from,
    /** Opens a browser in a network of its own. */
    visitor: () => openVisitor(stage.url, stage.url, from()),
    /**
     * Sends ten times as many calls as there are slots, each from another network. Resolves when these calls hold all
     * slots that they may have.
     */
    async flood(call: (number: number) => Promise<{ status: number }>) {
      gate.hold()
      const refused: number[] = []
      const calls = Array.from({ length: 10 * slots }, (_, number) => call(number))
      all.push(...calls)
      for (const each of calls) void each.then(({ status }) => refused.push(status))
      await gate.waiting(ofStrangers)
      await until(() => refused.length === 10 * slots - ofStrangers)
      assert.deepEqual(new Set(refused), new Set([503]))
    },
  }
}

type Scene = Awaited<ReturnType<typeof scene>>

/** Floods an address that users call. */
const floodUsers = ({ flood, visitor }: Scene) =>
  flood((number) => visitor().get(`/oauth/authorize?client_id=unknown${number}`))

/** Floods an address that clients call. */
const floodClients = ({ flood, stage, from }: Scene) =>
  flood((number) => callWith(stage, 'POST', '/oauth/token', from(), refreshing('x', `unknown${number}`)))

const refreshing = (refresh_token: string, client_id = pocketApp.client_id) => ({
  grant_type: 'refresh_token',
  refresh_token,
  client_id,
})

const signInToApp = (stage: Stage, who: { username: string; password: string } = ana) =>
  signIn(stage, who, decidesOffline, { id: pocketApp.client_id, authentication: openid.None() })

const served = <Result>(call: Promise<Result>, what: string) => inTime(call, () => what)

for (const engine of engines) {
  describe(`while anonymous callers of 160 networks hold three quarters of 16 slots, on ${engine.name}`, () => {
    test('a user whose token has expired gets a new one, and sees the list', async (t) => {
      const now = await scene(t, engine)
      const { stage, visitor } = now
      const [anas, strangers] = [visitor(), visitor()]
      await anas.signIn(ana)
      stage.clock.advance(11 * 60_000)
      await floodUsers(now)
      const renewing = await anas.get('/activity')
      assert.equal(renewing.location, '/session/start?to=%2Factivity', 'the token has expired')
      const page = await served(anas.follow(renewing), 'the page')
      assert.deepEqual([page.status, page.location], [200, undefined])
      assert.equal((await anas.get('/')).status, 200)
      assert.equal((await strangers.get('/session/start')).status, 503)
    })

    test('an app of a user sees the list; a token that is not known here has to wait', async (t) => {
      const now = await scene(t, engine)
      const { stage } = now
      const { access_token: token } = await signInToApp(stage)
      await floodUsers(now)
      const list = async (sent: string) =>
        (
          await served(
            stage.get('/backchannel/authinfo', { authorization: `Bearer ${sent}`, ...now.from() }),
            'the list',
          )
        ).status
      assert.deepEqual([await list(token), await list('unknown')], [200, 503])
    })

    test('an app refreshes, and exchanges a code', async (t) => {
      const now = await scene(t, engine)
      const { stage } = now
      const { refresh_token } = await signInToApp(stage)
      const code = await codeFor(stage, ben)
      await floodClients(now)
      const send = async (form: Record<string, string>) =>
        (await served(callWith(stage, 'POST', '/oauth/token', now.from(), form), 'tokens')).status
      assert.equal(await send(refreshing(refresh_token!)), 200)
      assert.equal(await send(code.form), 200)
      assert.equal(await send(refreshing('unknown')), 503)
      const polled = await stage.poll('kiosk', 'unknown')
      assert.equal(polled.status, 503, 'a client that was not authenticated from here before')
    })

    test('ten times as many calls of one returning user leave capacity for another, and for clients', async (t) => {
      const now = await scene(t, engine, /from oidc_models found\s+where model = \$1 and id_hash/)
      const { stage, gate } = now
      await stage.poll('kiosk', 'unknown')
      const [anas, bens] = [await signInToApp(stage), await signInToApp(stage, ben)]
      await floodClients(now)
      const send = (token: string | undefined) =>
        callWith(stage, 'POST', '/oauth/token', now.from(), refreshing(String(token)))
      const refused: number[] = []
      const many = Array.from({ length: 10 * slots }, () => send(anas.refresh_token))
      for (const each of many) void each.then(({ status }) => refused.push(status))
      await gate.waiting(ofStrangers + 1)
      await until(() => refused.length === 10 * slots - 1)
      const other = send(bens.refresh_token)
      await gate.waiting(ofStrangers + 2)
      assert.equal((await served(stage.poll('kiosk', 'unknown'), 'a client')).body.error, 'invalid_grant')
      gate.release()
      assert.equal((await other).status, 200)
      assert.deepEqual(
        (await Promise.all(many)).map(({ status }) => status).filter((status) => status !== 503),
        [200],
      )
    })
  })
}
