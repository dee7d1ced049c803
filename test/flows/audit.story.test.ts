/** One stream of audit events: one event for each step, one vocabulary, no secrets (CD-19). */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, type TestContext, test } from 'node:test'
import { type AuditEvent, auditEvents } from '../../src/platform/audit.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { auditOf } from '../support/audit.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf, signIn, startSignIn } from '../support/phone-app.ts'
import {
  ana,
  basic,
  CIBA,
  credentials,
  openStage,
  type RingingClient,
  type Stage,
  type StageOptions,
} from '../support/stage.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

const minutes = 60_000

/** An event without its time and the values that differ from run to run. */
function short({ event, by, outcome }: AuditEvent): string {
  return [event, by, outcome].filter((word) => word !== undefined).join(' ')
}

async function played(t: TestContext, options: StageOptions = {}) {
  const endpoint = await openNotificationEndpoint(t)
  const stage = await openStage(t, { northbank: endpoint.url, till: endpoint.url, ...options })
  /** The events that `work` causes, in order. */
  async function during(work: () => Promise<unknown>): Promise<AuditEvent[]> {
    const before = auditOf(stage).length
    await work()
    await stage.doorbell.idle()
    return auditOf(stage).slice(before)
  }
  return { stage, endpoint, during }
}

type Ending = 'approved' | 'denied' | 'reported' | 'expired' | 'not collected'

/** The events that follow an authentication request, for each mode and ending. */
const endings: Record<Ending, Record<RingingClient, string[]>> = {
  approved: {
    kiosk: ['request.approved device_service', 'tokens.issued poll'],
    northbank: ['request.approved device_service', 'notification.delivered ping answered 204', 'tokens.issued ping'],
    till: ['request.approved device_service', 'tokens.issued push', 'notification.delivered push answered 204'],
  },
  denied: {
    kiosk: ['request.denied device_service'],
    northbank: ['request.denied device_service', 'notification.delivered ping answered 204'],
    till: ['request.denied device_service', 'notification.delivered push answered 204'],
  },
  reported: {
    kiosk: ['request.denied device_service', 'request.reported device_service', 'client.blocked report'],
    northbank: [
      'request.denied device_service',
      'request.reported device_service',
      'client.blocked report',
      'notification.delivered ping answered 204',
    ],
    till: [
      'request.denied device_service',
      'request.reported device_service',
      'client.blocked report',
      'notification.delivered push answered 204',
    ],
  },
  expired: {
    kiosk: ['request.expired clock'],
    // No ping reports the expiry. The client learns of it when it polls (CIBA Core §10.2).
    northbank: ['request.expired clock'],
    till: ['request.expired clock', 'notification.delivered push answered 204'],
  },
  'not collected': {
    kiosk: ['request.approved device_service', 'request.expired clock'],
    northbank: ['request.approved device_service', 'notification.delivered ping answered 204', 'request.expired clock'],
    // A push delivers the tokens itself, so the client collects no tokens at the token endpoint.
    till: ['request.approved device_service', 'tokens.issued push', 'notification.delivered push answered 204'],
  },
}

function byWorker(event: string): boolean {
  return /^(notification\.|tokens\.issued push)/.test(event)
}

const mode = { kiosk: 'poll', northbank: 'ping', till: 'push' }

async function end(stage: Stage, as: RingingClient, ending: Ending, authReqId: unknown): Promise<void> {
  const requestId = await stage.newestRequest()
  const runOut = async () => {
    await stage.doorbell.idle()
    stage.clock.advance(11 * minutes)
    await stage.doorbell.sweep()
  }
  switch (ending) {
    case 'approved':
      await stage.decide(requestId, 'approved')
      await stage.doorbell.idle()
      if (as !== 'till') assert.equal((await stage.poll(as, authReqId)).status, 200)
      return
    case 'denied':
      await stage.decide(requestId, 'denied')
      await stage.doorbell.idle()
      if (as !== 'till') assert.equal((await stage.poll(as, authReqId)).body.error, 'access_denied')
      return
    case 'reported':
      await stage.decide(requestId, 'denied', { report: 'true' })
      return
    case 'expired':
      return runOut()
    case 'not collected':
      await stage.decide(requestId, 'approved')
      return runOut()
  }
}

for (const engine of engines) {
  describe(`audit events of a request, on ${engine.name} (CD-19)`, () => {
    for (const [ending, byClient] of Object.entries(endings) as [Ending, Record<RingingClient, string[]>][]) {
      for (const [as, expected] of Object.entries(byClient) as [RingingClient, string[]][]) {
        test(`${mode[as]}, ${ending}: one event for each step, in order, with the id of the request`, async (t) => {
          const { stage, during } = await played(t, { engine })
          let requestId = ''
          const events = await during(async () => {
            const { body } = await stage.ring(as)
            await stage.doorbell.idle()
            requestId = await stage.newestRequest()
            await end(stage, as, ending, body.auth_req_id)
          })
          const inAll = [
            'request.received',
            `request.accepted ${mode[as]}`,
            'notification.delivered mailbox handed to mailbox',
            ...expected,
          ]
          // The order may vary: the worker may record its events before the call that decided has recorded its own
          // events.
          const told = events.map(short)
          assert.deepEqual(told.filter(byWorker), inAll.filter(byWorker))
          assert.deepEqual(
            told.filter((event) => !byWorker(event)),
            inAll.filter((event) => !byWorker(event)),
          )
          const [received, ...others] = events
          assert.partialDeepStrictEqual(received!, { client: as, address: '127.0.0.1' })
          for (const event of others) {
            assert.equal(event.request, requestId, short(event))
            assert.ok(Number.isFinite(Date.parse(event.at)))
            if (event.event.startsWith('notification.'))
              assert.deepEqual([typeof event.about, event.attempt], ['string', 1])
            else assert.deepEqual([event.client, event.user], [as, ana.id], short(event))
          }
        })
      }
    }
  })
}

describe('other audit events (CD-19)', () => {
  test('refused calls, with the reason: unauthenticated callers without a name, clients with theirs', async (t) => {
    const { stage, during } = await played(t, { config: { requests: { maxOpenPerUser: 1 } } })
    const sendRequest = (authorization: string) =>
      stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, authorization)
    const events = await during(async () => {
      await sendRequest(basic('kiosk', 'wrong'))
      await sendRequest(basic('what-somebody-pasted', 'wrong'))
      await stage.ring('kiosk', { scope: 'profile' })
      await stage.ring('kiosk', { login_hint: 'zoe' })
      await stage.ring('kiosk')
      await stage.doorbell.idle()
      await stage.ring('northbank')
    })
    assert.deepEqual(
      events.map((event) => [short(event), event.client, event.user]),
      [
        ['client.refused invalid_client', 'kiosk', undefined],
        ['client.refused invalid_client', undefined, undefined],
        ['request.received', 'kiosk', undefined],
        ['request.refused invalid_scope', 'kiosk', undefined],
        ['request.received', 'kiosk', undefined],
        ['request.refused unknown_user_id', 'kiosk', undefined],
        ['request.received', 'kiosk', undefined],
        ['request.accepted poll', 'kiosk', ana.id],
        ['notification.delivered mailbox handed to mailbox', undefined, undefined],
        ['request.received', 'northbank', undefined],
        ['limit.reached perUser.open', 'northbank', ana.id],
        ['request.refused access_denied', 'northbank', ana.id],
      ],
    )
    assert.ok(events.every(({ event, address }) => event.startsWith('notification') || address === '127.0.0.1'))
  })

  test('each failed callback, and at last the parked message', async (t) => {
    const { stage, endpoint, during } = await played(t, { config: { notifications: { attempts: 2 } } })
    endpoint.behaves(500, 400)
    const events = await during(async () => {
      await stage.ring('northbank')
      await stage.doorbell.idle()
      await stage.decide(await stage.newestRequest(), 'denied')
      await stage.doorbell.idle()
      stage.clock.advance(2_500)
    })
    assert.deepEqual(
      events.slice(4).map((event) => [short(event), event.attempt]),
      [
        ['notification.failed ping answered 500', 1],
        ['notification.parked ping answered 400', 2],
      ],
    )
  })

  test('what users do: sign in, fail to sign in, decide in the app, revoke, block', async (t) => {
    const { stage, during } = await played(t)
    const { browser, page } = await startSignIn(stage)
    assert.deepEqual((await during(() => browser.submit(page, { name: 'ana', password: 'wrong' }))).map(short), [
      'sign_in.failed password',
    ])
    const signedIn = await during(() => signIn(stage))
    assert.deepEqual(signedIn.map(short), ['sign_in.succeeded password', 'tokens.issued authorization_code'])
    assert.deepEqual(
      signedIn.map(({ client, user }) => [client, user]),
      [
        ['phone-app', ana.id],
        ['phone-app', ana.id],
      ],
    )

    await stage.ring('kiosk')
    await stage.doorbell.idle()
    const requestId = await stage.newestRequest()
    const visitor = openVisitor(stage.url)
    const form_token = formTokenOn(await visitor.signIn(ana, `/approve/${requestId}`))
    const bearer = await bearerOf(stage)
    const events = await during(async () => {
      await visitor.post(`/approve/${requestId}`, { decision: 'approve', form_token })
      await stage.post('/backchannel/revoke', { request_id: requestId }, bearer)
      await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'true' }, bearer)
      await stage.post('/backchannel/block', { client_id: 'kiosk', blocked: 'false' }, bearer)
    })
    assert.deepEqual(events.map(short), [
      'request.approved user',
      'request.denied user',
      'request.revoked',
      'client.blocked',
      'client.unblocked',
    ])
    assert.equal(events[0]!.about, 'doorbell-consent-app', 'through which client')
    assert.ok(events.every(({ user, address }) => user === ana.id && address === '127.0.0.1'))
  })

  test('clients that are added, changed and removed', async (t) => {
    const { stage, during } = await played(t, { config: { registration: { mode: 'open' } } })
    assert.deepEqual(
      auditOf(stage, 'client.configured')
        .map(({ client }) => client)
        .sort(),
      ['kiosk', 'northbank', 'phone-app', 'phone-service', 'till'],
    )
    assert.deepEqual(await during(() => stage.restart()), [], 'an unchanged client causes no event')

    const send = async (method: string, path: string, body?: unknown, token = '') => {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` }
      const answer = await fetch(stage.url + path, {
        method,
        headers,
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
      return (answer.status === 204 ? {} : await answer.json()) as Record<string, string>
    }
    const metadata = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' }
    let client = ''
    const events = await during(async () => {
      const registered = await send('POST', '/oauth/register', metadata)
      client = registered.client_id!
      const path = `/oauth/register/${client}`
      const replaced = await send('PUT', path, { ...metadata, client_id: client }, registered.registration_access_token)
      await send('DELETE', path, undefined, replaced.registration_access_token)
      const settings = { backchannel_client_notification_endpoint: 'http://localhost:9/other' }
      await stage.post('/backchannel/clientconfig', settings, credentials.northbank)
    })
    assert.deepEqual(
      events.map((event) => [short(event), event.client]),
      [
        ['client.registered', client],
        ['client.replaced', client],
        ['client.removed registration', client],
        ['client.settings_changed ping', 'northbank'],
      ],
    )
  })
})

describe('where audit events go (CD-19)', () => {
  test('each event is one log line and one call of the hook, with the same content and in the same order', async (t) => {
    const heard: AuditEvent[] = []
    const { stage } = await played(t, { config: { audit: (event) => void heard.push(event) } })
    const { body } = await stage.ring('kiosk')
    await stage.decide(await stage.newestRequest(), 'approved')
    await stage.poll('kiosk', body.auth_req_id)
    await stage.doorbell.idle()
    const logged = auditOf(stage)
    assert.ok(heard.length > 8)
    assert.deepEqual(
      logged.map(({ event, at, request }) => ({ event, at, request })),
      heard.map(({ event, at, request }) => ({ event, at, request })),
    )
    for (const event of heard) {
      assert.ok(auditEvents.includes(event.event))
      assert.throws(() => Object.assign(event, { outcome: 'another' }), TypeError)
    }
    // Each log line with an event name of the audit vocabulary is a line of the audit stream.
    const named = stage.logLines.map((line) => JSON.parse(line)).filter(({ event }) => auditEvents.includes(event))
    assert.ok(named.every(({ audit }) => audit === true))
    assert.equal(named.length, heard.length)
  })

  for (const [how, audit] of [
    [
      'throws',
      () => {
        throw new Error('the audit is down')
      },
    ],
    ['rejects', () => Promise.reject(new Error('the audit is down'))],
    ['never answers', () => new Promise(() => {})],
  ] as const) {
    test(`a hook that ${how} changes nothing`, async (t) => {
      const { stage } = await played(t, { config: { audit } })
      const { body } = await stage.ring('kiosk')
      await stage.decide(await stage.newestRequest(), 'approved')
      assert.equal((await stage.poll('kiosk', body.auth_req_id)).status, 200)
      assert.equal(auditOf(stage, 'tokens.issued').length, 1)
      const failures = stage.logLines.filter((line) => line.includes('audit.hook_failed'))
      assert.equal(failures.length > 0, how !== 'never answers')
    })
  }

  test('no audit event contains a secret', async (t) => {
    const heard: AuditEvent[] = []
    const { stage, endpoint } = await played(t, { config: { audit: (event) => void heard.push(event) } })
    const secretsOnTheWay: string[] = [ana.password, ana.email, 'Coffee 4.20']
    for (const as of ['kiosk', 'northbank', 'till'] as const) {
      const client_notification_token = newSecret(24)
      const { body } = await stage.ring(as, { ...(as !== 'kiosk' && { client_notification_token }) })
      await stage.doorbell.idle()
      await stage.decide(await stage.newestRequest(), 'approved')
      await stage.doorbell.idle()
      secretsOnTheWay.push(String(body.auth_req_id), client_notification_token)
      if (as !== 'till') secretsOnTheWay.push(...tokensOf((await stage.poll(as, body.auth_req_id)).body))
    }
    secretsOnTheWay.push(...endpoint.heard.flatMap(({ body }) => tokensOf(body)))
    const { access_token } = await signIn(stage)
    secretsOnTheWay.push(access_token)
    const text = JSON.stringify(heard)
    assert.ok(text.includes(ana.id) && secretsOnTheWay.length > 12)
    assert.deepEqual(
      secretsOnTheWay.filter((secret) => text.includes(secret)),
      [],
    )
  })

  test('docs/audit.md lists every event of the vocabulary, and no other', () => {
    const rows = readFileSync('docs/audit.md', 'utf8').matchAll(/^\| `([a-z_]+\.[a-z_]+)`/gm)
    assert.deepEqual([...rows].map(([, name]) => name).sort(), [...auditEvents].sort())
  })
})

function tokensOf(body: Record<string, unknown>): string[] {
  return ['access_token', 'id_token', 'refresh_token'].flatMap((name) => (body[name] ? [String(body[name])] : []))
}
