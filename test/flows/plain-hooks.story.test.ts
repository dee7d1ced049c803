/** An application in plain JavaScript: its hooks return values, not promises, and undefined if there is no user. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { User, UserHooks } from '../../src/index.ts'
import { createAuthenticator, pressPasskey } from '../support/authenticator.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { signIn, startSignIn } from '../support/phone-app.ts'
import { type Answer, ana, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { added } from './passkeys.ts'

/** The users of an application. Its hooks call its own methods with `this`. */
class PlainUsers {
  readonly nobody: null | undefined
  isGone = false
  isDown = false

  constructor(nobody: null | undefined) {
    this.nobody = nobody
  }

  known(): User | null | undefined {
    return this.isGone ? this.nobody : { id: ana.id, email: ana.email, name: ana.name }
  }

  find() {
    if (this.isDown) throw new Error('the directory is down')
    return this.known()
  }

  findByHint() {
    return this.known()
  }

  verifyPassword(_user: User, password: string) {
    return !this.isGone && password === ana.password
  }
}

/** Resolves to the result of each route that uses a user, after the user was removed. */
async function play(t: TestContext, engine: Engine, nobody: null | undefined): Promise<Record<string, unknown>> {
  const users = new PlainUsers(nobody)
  const endpoint = await openNotificationEndpoint(t)
  const config = { users: users as unknown as UserHooks }
  const stage = await openStage(t, { engine, config, till: endpoint.url })
  const scene = await prepare(stage)
  // This message is sent only after the user was removed.
  users.isDown = true
  await stage.ring('kiosk')
  await stage.doorbell.idle()
  users.isDown = false
  users.isGone = true
  stage.logLines.length = 0
  stage.clock.advance(2_000)
  await stage.doorbell.idle()
  const results = {
    ...(await callAsClient(stage, scene)),
    ...(await callAsUser(stage, scene)),
    ...(await visit(stage, scene)),
    absent: await stage.doorbell.sweep(),
  }
  const messages = await rowsOf(stage, 'select kind, state, last_outcome from notifications order by kind, state')
  assert.deepEqual(
    stage.logLines.filter((line) => /"level":50|absent_users\.failed/.test(line) && !line.includes('"audit":true')),
    [],
  )
  return { ...results, messages: messages.map((row) => Object.values(row).join(' ')) }
}

type Scene = Awaited<ReturnType<typeof prepare>>

async function prepare(stage: Stage) {
  const issue = async () => {
    const { body } = await stage.ring('kiosk', { scope: 'openid offline_access' })
    // The message to the mailbox must be sent before the decision, because it is not sent after the decision.
    await stage.doorbell.idle()
    await stage.decide(await stage.newestRequest(), 'approved')
    return body.auth_req_id
  }
  const { body: tokens } = await stage.poll('kiosk', await issue())
  const approved = await issue()
  const { body: pending } = await stage.ring('kiosk')
  const bearer = `Bearer ${(await signIn(stage)).access_token}`
  const authenticator = await added(stage, bearer, createAuthenticator(stage.url))
  await stage.doorbell.idle()
  const begun = { byPassword: await startSignIn(stage), byPasskey: await startSignIn(stage) }
  const signedIn = await startSignIn(stage)
  const consent = await signedIn.browser.submit(signedIn.page, { name: 'ana', password: ana.password })
  return {
    tokens: tokens as Record<string, string>,
    approved,
    pending: { authReqId: pending.auth_req_id, id: await stage.newestRequest() },
    bearer,
    authenticator,
    begun,
    consent: { browser: signedIn.browser, url: consent.url },
  }
}

const shown = ({ status, body }: Answer) => [status, body.error, body.active]

async function callAsClient(stage: Stage, { tokens, approved, pending }: Scene) {
  const token = String(tokens.access_token)
  const kiosk = credentials.kiosk
  const refresh = { grant_type: 'refresh_token', refresh_token: String(tokens.refresh_token) }
  return {
    byLoginHint: shown(await stage.ring('kiosk')),
    byIdToken: shown(await stage.ring('kiosk', { login_hint: '', id_token_hint: String(tokens.id_token) })),
    poll: shown(await stage.post('/oauth/token', { grant_type: CIBA, auth_req_id: String(approved) }, kiosk)),
    userinfo: (await stage.get('/oauth/userinfo', { authorization: `Bearer ${token}` })).status,
    introspection: shown(await stage.post('/oauth/introspect', { token }, kiosk)),
    refresh: shown(await stage.post('/oauth/token', refresh, kiosk)),
    decideAsService: shown(await stage.decide(pending.id, 'approved')),
    openAsService: shown(await stage.post('/backchannel/authinfo', { login_hint: 'ana' }, credentials.phoneService)),
  }
}

async function callAsUser(stage: Stage, { bearer, pending }: Scene) {
  const get = async (path: string) => shown(await stage.get(`/backchannel/${path}`, { authorization: bearer }))
  const decision = { request_id: pending.id, status: 'approved' }
  return {
    open: await get('authinfo'),
    activity: await get('activity'),
    passkeys: await get('passkeys'),
    passkeyOptions: shown(await stage.post('/backchannel/passkeys/options', {}, bearer)),
    sessions: await get('sessions'),
    decide: shown(await stage.post('/backchannel/complete', decision, bearer)),
    decideInProcess: (await stage.doorbell.requests.approve(pending.id, ana.id)).kind,
  }
}

async function visit(stage: Stage, { begun, authenticator, consent }: Scene) {
  const { byPassword, byPasskey } = begun
  const name = { name: 'ana', password: ana.password }
  return {
    signInByPassword: (await byPassword.browser.submit(byPassword.page, name)).status,
    signInByPasskey: (await pressPasskey(byPasskey.browser, byPasskey.page, authenticator)).status,
    consent: (await consent.browser.open(consent.url)).status,
    signOut: (await consent.browser.open(`${stage.url}/oauth/logout`)).status,
  }
}

const invalidToken = [401, 'invalid_token', undefined]
const unknownUser = [400, 'unknown_user_id', undefined]

const expected = {
  byLoginHint: unknownUser,
  byIdToken: unknownUser,
  poll: [400, 'access_denied', undefined],
  userinfo: 401,
  introspection: [200, undefined, false],
  refresh: [400, 'invalid_grant', undefined],
  decideAsService: unknownUser,
  openAsService: unknownUser,
  open: invalidToken,
  activity: invalidToken,
  passkeys: invalidToken,
  passkeyOptions: invalidToken,
  sessions: invalidToken,
  decide: invalidToken,
  decideInProcess: 'user unavailable',
  signInByPassword: 401,
  signInByPasskey: 401,
  consent: 200,
  signOut: 200,
  absent: 3,
  messages: [
    'account_mailbox delivered handed to mailbox',
    ...Array(3).fill('mailbox delivered handed to mailbox'),
    'mailbox parked the user no longer exists or is disabled',
  ],
}

for (const engine of engines) {
  describe(`hooks in plain JavaScript, on ${engine.name}`, () => {
    test('may return undefined for "no such user": every route responds as it does for null', async (t) => {
      const withNull = await play(t, engine, null)
      assert.deepEqual(withNull, expected)
      assert.deepEqual(await play(t, engine, undefined), withNull)
    })

    for (const [what, id, message] of [
      ['a number, as databases return it', 7, /whose id is of type number\..*; return String\(id\)\./],
      ['a bigint', 7n, /whose id is of type bigint\..*; return String\(id\)\./],
      ['missing', undefined, /whose id is of type undefined\./],
      ['an object', { id: 7 }, /whose id is of type object\./],
      ['empty', '', /whose id is not valid\. The id must be a string of 1 to 255 ASCII characters without spaces\./],
      ['too long', 'a'.repeat(256), /whose id is not valid\./],
      ['not ASCII', 'añà', /whose id is not valid\./],
      ['with a NUL', 'a\0b', /whose id is not valid\./],
    ] as const) {
      test(`a user whose id is ${what} is refused at the first request, and the log says what to return`, async (t) => {
        const user = { id } as unknown as User
        const stage = await openStage(t, {
          engine,
          config: { users: { find: () => user, findByHint: () => user } as never },
        })
        const { status, body } = await stage.ring('kiosk')
        assert.deepEqual([status, body.error], [500, 'server_error'])
        assert.match(
          stage.logLines.filter((line) => line.includes('"level":50')).join(),
          /users\.findByHint returned a user/,
        )
        assert.match(stage.logLines.join(), message)
        assert.deepEqual(await rowsOf(stage, 'select id from backchannel_auth_requests'), [])
      })
    }
  })
}
