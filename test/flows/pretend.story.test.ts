/**
 * A client that must not learn which users exist: a request about an unknown user looks like one that the user never
 * answers (M30, AE-5, CD-18).
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { SignJWT } from 'jose'
import { newSecret } from '../../src/platform/crypto.ts'
import { OAuthError } from '../../src/platform/oauth-error.ts'
import { newKey, pollClient } from '../support/assertions.ts'
import { byCommand } from '../support/commands.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import {
  type Answer,
  ana,
  basic,
  ben,
  CIBA,
  credentials,
  openStage,
  type RingingClient,
  type Stage,
  type StageOptions,
} from '../support/stage.ts'
import { listenToStatements } from '../support/statements.ts'
import { rowsOf } from '../support/tables.ts'

const secret = newSecret()
const dora = { id: 'user-dora', username: 'dora', email: 'dora@example.com', disabled: true }
const cleo = { id: 'user-cleo', username: 'cleo', email: 'cleo@example.com', user_code: 'otter-1234' }

function pretending(t: TestContext, { config, ...options }: StageOptions = {}): Promise<Stage> {
  const requests = { unknownUsers: 'pretend' as const, ...config?.requests }
  return openStage(t, { ...options, config: { users: [ana, ben, dora, cleo], ...config, requests } })
}

/** An answer without the values that differ from call to call. */
function shapeOf({ status, headers, body }: Answer) {
  const names = [...headers.keys()].filter((name) => name !== 'date').sort()
  const length = headers.get('content-length')
  const authReqId = body.auth_req_id
  const shape: Record<string, unknown> = { ...body, auth_req_id: typeof authReqId === 'string' ? authReqId.length : 0 }
  return { status, names, length, body: shape }
}

const rows = (stage: Stage) => rowsOf(stage, "select * from backchannel_auth_requests where user_id like '∅%'")

for (const engine of engines) {
  describe(`a request about an unknown user, on ${engine.name}`, () => {
    for (const as of ['kiosk', 'northbank', 'till'] as RingingClient[]) {
      test(`gets ${as} the same answer as one about Ana, letter for letter, and the database the same statements`, async (t) => {
        const statements = listenToStatements()
        const email = { smtp: 'smtp://localhost:1', from: 'a@example.com' }
        const stage = await pretending(t, {
          engine,
          config: { email },
          parts: { openDatabase: statements.openDatabase, workers: false },
        })
        const about = async (login_hint: string) => {
          let answer: Answer
          const sql = await statements.during(async () => {
            answer = await stage.ring(as, { login_hint, requested_expiry: '77' })
          })
          return { sql, shape: shapeOf(answer!) }
        }
        const known = await about('ana')
        assert.equal(known.shape.status, 200)
        assert.ok(known.sql.some((each) => each.startsWith('insert into notifications')))
        for (const hint of ['zoe', 'zoe@example.com', 'dora', "x' or '1'='1", '∅ x']) {
          assert.deepEqual(await about(hint), known, hint)
        }
        assert.equal((await rows(stage)).length, 5)
      })
    }

    test('is polled like any other request, until it has expired', async (t) => {
      const stage = await pretending(t, { engine })
      const ids = await Promise.all(
        ['ana', 'zoe'].map(async (login_hint) => (await stage.ring('kiosk', { login_hint })).body.auth_req_id),
      )
      const poll = async () => {
        const [known, unknown] = await Promise.all(ids.map((id) => stage.poll('kiosk', id)))
        assert.deepEqual(shapeOf(unknown!), shapeOf(known!))
        return unknown!.body.error
      }
      assert.equal(await poll(), 'authorization_pending')
      assert.equal(await poll(), 'slow_down')
      stage.clock.advance(10_000)
      assert.equal(await poll(), 'authorization_pending')
      stage.clock.advance(600_000)
      assert.equal(await poll(), 'expired_token')
      await stage.doorbell.sweep()
      assert.equal(await poll(), 'expired_token')
      assert.equal((await rows(stage))[0]!.status, 'expired')
    })
  })
}

describe('a client cannot find out by what happens to a user, or by its limits, whether another user exists', () => {
  const subject = (format: string, members: object) => JSON.stringify({ format, ...members })

  for (const engine of engines) {
    test(`because only one format is accepted, whoever exists, on ${engine.name}`, async (t) => {
      const stage = await pretending(t, { engine })
      const { host } = new URL(stage.url)
      for (const [name, email] of [
        ['ana', ana.email],
        ['nobody', 'nobody@example.com'],
      ] as const) {
        const others = [subject('email', { email }), subject('opaque', { id: name })]
        const hints = [
          ...others,
          subject('account', { uri: `acct:${name}@${host}` }),
          subject('phone_number', { phone_number: '+34600000001' }),
          subject('aliases', { identifiers: [{ format: 'email', email: ben.email }, JSON.parse(others[0]!)] }),
        ]
        for (const login_hint of hints) {
          const { status, body } = await stage.ring('kiosk', { login_hint })
          assert.deepEqual([status, body.error], [400, 'invalid_request'], login_hint)
        }
        const { status } = await stage.ring('kiosk', {
          login_hint: subject('iss_sub', { iss: stage.url, sub: `user-${name}` }),
        })
        assert.equal(status, 200)
      }
      assert.equal((await stage.waiting('ana')).length, 1)
      assert.deepEqual(await stage.waiting('ben'), [])
    })

    test(`because a name and a subject are counted separately, unless they find a user, on ${engine.name}`, async (t) => {
      const stage = await pretending(t, {
        engine,
        config: { users: [ana, ben], limits: { perClientAndUser: { open: 2 } } },
      })
      const statuses = async (name: string) => {
        const sub = (iss: string) => subject('iss_sub', { sub: name, iss })
        const swapped = `{"sub":"${name}","format":"iss_sub","iss":"${stage.url}"}`
        const hints = [
          sub(stage.url),
          swapped,
          sub(stage.url),
          sub('https://other.example'),
          name,
          name,
          name,
          name.toUpperCase(),
        ]
        const answers: number[] = []
        for (const login_hint of hints) answers.push((await stage.ring('kiosk', { login_hint })).status)
        return answers
      }
      const same = [200, 200, 429, 200, 200, 200, 429, 429]
      assert.deepEqual(await statuses('ana'), same)
      assert.deepEqual(await statuses('nobody'), same)
      await byCommand(stage, ({ addDora }) => addDora())
      assert.deepEqual(await statuses('dora'), same, 'a user who was added by command')
    })
  }
})

describe('a request about a decoy user', () => {
  test('is not notified, shown, or open to a decision', async (t) => {
    const hook = await openNotificationEndpoint(t)
    const stage = await pretending(t, {
      config: { deviceWebhook: { url: hook.url, secret: newSecret() }, notifications: { allowPrivateNetworks: true } },
    })
    const { auth_req_id } = (await stage.ring('kiosk', { login_hint: 'zoe@example.com' })).body
    await stage.doorbell.idle()
    const mailbox = await stage.get('/dev/mailbox', { accept: 'application/json' })
    assert.deepEqual([mailbox.body.mails, hook.heard], [[], []])
    const sent = await rowsOf(stage, 'select state, last_outcome from notifications')
    assert.deepEqual(new Set(sent.map((each) => each.last_outcome)), new Set(['decoy user: nothing to send']))

    const [row] = await rows(stage)
    for (const user of ['ana', 'ben']) assert.deepEqual(await stage.waiting(user), [])
    const authorization = await bearerOf(stage)
    for (const field of [`request_id=${row!.id}`, `auth_req_id=${auth_req_id}`, 'status=pending']) {
      const { body } = await stage.get(`/backchannel/authinfo?${field}`, { authorization })
      assert.deepEqual(body, { requests: [] })
    }
    const fields = { request_id: String(row!.id), status: 'approved' }
    assert.equal((await stage.post('/backchannel/complete', fields, authorization)).status, 404)
    assert.equal((await stage.decide(row!.id, 'approved')).status, 404)
    const decided = await stage.post('/dev/decide', { auth_req_id: String(auth_req_id), action: 'allow' })
    assert.equal(decided.status, 409)
    assert.deepEqual(await stage.doorbell.requests.approve(String(row!.id), String(row!.user_id)), { kind: 'unknown' })
    assert.equal((await stage.poll('kiosk', auth_req_id)).body.error, 'authorization_pending')
    assert.ok(
      stage.logLines.some((line) => line.includes('"outcome":"pretended"')),
      'the operator can see it',
    )
    assert.ok(!JSON.stringify(await rows(stage)).includes('zoe'), 'the name that the client sent is not stored')
  })

  test('expires like any unanswered request: a push client gets the same error; a ping client gets nothing', async (t) => {
    const [pushed, pinged] = [await openNotificationEndpoint(t), await openNotificationEndpoint(t)]
    const stage = await pretending(t, { till: pushed.url, northbank: pinged.url })
    const ids = new Map<unknown, string>()
    for (const login_hint of ['ana', 'zoe']) {
      ids.set((await stage.ring('till', { login_hint })).body.auth_req_id, login_hint)
      await stage.ring('northbank', { login_hint })
    }
    stage.clock.advance(601_000)
    await stage.doorbell.sweep()
    await stage.doorbell.idle()
    const heard = await pushed.hears(2)
    const bodies = heard.map(({ body: { auth_req_id, ...rest } }) => [ids.get(auth_req_id), rest] as const)
    const of = Object.fromEntries(bodies)
    assert.equal(of.zoe!.error, 'expired_token')
    assert.deepEqual(of.zoe, of.ana)
    assert.equal(pinged.heard.length, 0)
  })

  test('counts for the limit of open requests: by name, in any case, however it was sent', async (t) => {
    const key = await newKey('finder')
    const tokenIssuers = [{ issuer: 'https://finder.example', jwks: { keys: [key.publicJwk] } }]
    const stage = await pretending(t, { config: { requests: { maxOpenPerUser: 2 }, hints: { tokenIssuers } } })
    const statuses = async (hints: string[]) => {
      const all = []
      for (const login_hint of hints) all.push((await stage.ring('kiosk', { login_hint })).status)
      return all
    }
    assert.deepEqual(await statuses(['ana', 'ANA@example.com', 'user-ana']), [200, 200, 403])
    assert.deepEqual(await statuses(['zoe', 'ZOE', 'Zoe', 'zoe2']), [200, 200, 403, 200])
    assert.deepEqual(await statuses(['dora', 'dora', 'dora@example.com', 'dora']), [200, 200, 200, 403])
    const token = (jti: string) => {
      const now = Math.floor(stage.clock.now() / 1000)
      return new SignJWT({
        sub: 'somebody',
        jti,
        iss: 'https://finder.example',
        aud: stage.url,
        iat: now,
        exp: now + 60,
      })
        .setProtectedHeader({ alg: 'ES256', kid: 'finder' })
        .sign(key.privateKey)
    }
    const byToken = []
    for (const jti of ['1', '2', '3']) {
      byToken.push((await stage.ring('kiosk', { login_hint: '', login_hint_token: await token(jti) })).status)
    }
    assert.deepEqual(byToken, [200, 200, 403])
  })

  test('gets the same answer as one about a user who has blocked the client', async (t) => {
    const stage = await pretending(t)
    const authorization = await bearerOf(stage)
    await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'true' }, authorization)
    const blocked = await stage.ring('kiosk')
    assert.deepEqual(shapeOf(blocked), shapeOf(await stage.ring('kiosk', { login_hint: 'zoe' })))
    assert.deepEqual(await stage.waiting(), [])
    assert.equal((await stage.ring('northbank')).status, 200)
    assert.equal((await stage.waiting()).length, 1)
  })

  test('is not created for an invalid hint: its error is returned', async (t) => {
    const stage = await pretending(t)
    const sendRequest = (hints: Record<string, string>) => stage.ring('kiosk', { login_hint: '', ...hints })
    for (const hints of [{}, { id_token_hint: 'x.y.z' }, { login_hint: 'zoe', login_hint_token: 'x' }]) {
      assert.equal((await sendRequest(hints as Record<string, string>)).body.error, 'invalid_request')
    }
    assert.equal((await rows(stage)).length, 0)
  })

  test('is not created for a device service: it gets the error, because it knows its users', async (t) => {
    const stage = await pretending(t)
    const { body } = await stage.post('/backchannel/authinfo', { login_hint: 'zoe' }, credentials.phoneService)
    assert.equal(body.error, 'unknown_user_id')
  })

  test('is also created when a hook refuses the user', async (t) => {
    const find = async (id: string) => (id === ana.id ? ana : null)
    const users = {
      find,
      async findByHint(hint: { value: string }) {
        if (hint.value === 'ana') return ana
        throw new OAuthError('unknown_user_id', 'no such customer')
      },
    }
    const stage = await pretending(t, { config: { users } })
    const about = async (login_hint: string) => shapeOf(await stage.ring('kiosk', { login_hint }))
    assert.deepEqual(await about('zoe'), await about('ana'))
  })
})

describe('the setting of a client (M30)', () => {
  const open = (t: TestContext, unknownUsers: 'error' | 'pretend') =>
    openStage(t, {
      config: {
        requests: { unknownUsers },
        clients: [
          pollClient('open', { client_secret: secret, backchannel_unknown_users: 'error' }),
          pollClient('closed', { client_secret: secret, backchannel_unknown_users: 'pretend' }),
        ],
      },
    })
  const sendRequest = (stage: Stage, as: string) =>
    stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'zoe' }, basic(as, secret))

  for (const [unknownUsers, kiosk] of [
    ['error', 400],
    ['pretend', 200],
  ] as const) {
    test(`overrides that of the deployment: ${unknownUsers}`, async (t) => {
      const stage = await open(t, unknownUsers)
      const answers = [await sendRequest(stage, 'open'), await sendRequest(stage, 'closed')]
      assert.deepEqual(
        answers.map(({ status, body }) => [status, body.error]),
        [
          [400, 'unknown_user_id'],
          [200, undefined],
        ],
      )
      assert.equal((await stage.ring('kiosk', { login_hint: 'zoe' })).status, kiosk)
    })
  }

  test('but a client that registers itself cannot set it', async (t) => {
    const stage = await openStage(t, {
      config: { registration: { mode: 'open' }, requests: { unknownUsers: 'pretend' } },
    })
    for (const backchannel_unknown_users of ['error', 'pretend']) {
      const response = await fetch(`${stage.url}/oauth/register`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          backchannel_token_delivery_mode: 'poll',
          grant_types: [CIBA],
          backchannel_unknown_users,
        }),
      })
      assert.equal(response.status, 400)
      assert.match(await response.text(), /backchannel_unknown_users may only be set by the operator/)
    }
  })
})

describe('decoy users and user codes (M47)', () => {
  const open = async (t: TestContext) => {
    const booth = pollClient('booth', { client_secret: secret, backchannel_user_code_parameter: true })
    const statements = listenToStatements()
    const parts = { openDatabase: statements.openDatabase, workers: false }
    const stage = await pretending(t, { config: { clients: [booth], userCodes: { maxTriesPerClient: 10_000 } }, parts })
    const ask = async (login_hint: string, user_code?: string) => {
      stage.clock.advance(1)
      let answer: Answer
      const form = { scope: 'openid', login_hint, ...(user_code !== undefined && { user_code }) }
      const sql = await statements.during(async () => {
        answer = await stage.post('/backchannel/authorize', form, basic('booth', secret))
      })
      return { ...shapeOf(answer!), sql }
    }
    // It cannot be predicted which of these names appear to have a code.
    const names = Array.from({ length: 30 }, (_, number) => `zoe${number}@example.com`)
    const withoutCode: string[] = []
    for (const name of names) if ((await ask(name)).status === 200) withoutCode.push(name)
    return { stage, ask, withoutCode, withCode: names.filter((name) => !withoutCode.includes(name)) }
  }

  test('some decoy users have a code and others none, permanently, like existing users', async (t) => {
    const { ask, withCode, withoutCode, stage } = await open(t)
    assert.ok(withCode.length > 3 && withoutCode.length > 3, `${withCode.length} and ${withoutCode.length}`)
    const missing = await ask('cleo')
    assert.deepEqual(missing.body.error, 'missing_user_code')
    await stage.restart()
    for (const name of withCode.slice(0, 3)) {
      for (const spelled of [name, name.toUpperCase()]) assert.deepEqual(await ask(spelled), missing)
    }
    const none = await ask('ana')
    const any = await ask('ana', 'anything')
    for (const name of withoutCode.slice(0, 3)) {
      assert.deepEqual(await ask(name), none)
      assert.deepEqual(await ask(name, 'anything'), any)
    }
  })

  test('a wrong code and a lock-out look the same as for existing users', async (t) => {
    const { ask, withCode } = await open(t)
    const hear = async (name: string) => {
      const all = []
      for (let each = 0; each < 7; each++) all.push(await ask(name, `wrong-${each}`))
      return all
    }
    const known = await hear('cleo')
    assert.deepEqual(
      known.map(({ body }) => body.error),
      [...Array(5).fill('invalid_user_code'), 'access_denied', 'access_denied'],
    )
    for (const name of withCode.slice(0, 2)) assert.deepEqual(await hear(name), known)
  })
})
