/**
 * A client disconnects while its poll is held. A proxy does not tell the server, so the tokens are lost. For some
 * seconds, and until one of the tokens is used, the client gets the same tokens if it repeats its poll.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose'
import type { ConfigInput } from '../../src/config/config.ts'
import { keyTimesOf, revokeKey } from '../../src/openid-provider/signing-keys/key-rotation.ts'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { auditOf } from '../support/audit.ts'
import { certify } from '../support/certificates.ts'
import { byCommand, type Commands } from '../support/commands.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { bearerOf } from '../support/phone-app.ts'
import { newProofKey, type ProofKey, pollWith, proofOf } from '../support/proofs.ts'
import { rotateAt, untilNoticed } from '../support/rotating-keys.ts'
import { openSilentProxy } from '../support/silent-proxy.ts'
import { type Answer, ana, basic, CIBA, credentials, openStage, type Stage, secrets } from '../support/stage.ts'
import { listenToStatements } from '../support/statements.ts'
import { rowsOf } from '../support/tables.ts'
import { openTlsStage } from '../support/tls-stage.ts'
import { until } from '../support/until.ts'
import { cert } from './certified-clients.ts'

const times = keyTimesOf({
  keys: { publishAhead: 3600, keepForHints: 3600 },
  tokens: { idTtl: 3600, accessTtl: 600 },
  resources: {},
} as never)

const offline = { scope: 'openid offline_access' }

for (const engine of engines) {
  describe(`the tokens of a held poll, on ${engine.name}`, () => {
    test('reach a client that disconnected behind a proxy that does not tell the server, when it polls again', async (t) => {
      const { stage, authReqId } = await scene(t, engine)
      const proxy = await openSilentProxy(t, Number(new URL(stage.url).port))
      const leaving = new AbortController()
      const gone = assert.rejects(pollAt(proxy.url, authReqId, leaving.signal), { name: 'AbortError' })
      await holds(stage, 1)
      leaving.abort()
      await gone
      await stage.decide(await stage.newestRequest(), 'approved')
      await until(() => proxy.answers() === 1)
      await holds(stage, 0)

      const { status, body, headers } = await stage.poll('kiosk', authReqId)
      assert.equal(status, 200)
      assert.equal(headers.get('cache-control'), 'no-store')
      assert.equal(await userinfo(stage, body.access_token), 200)
      assert.equal((await refresh(stage, body.refresh_token)).status, 200)
      assert.equal((await rowsOf(stage, `select model from oidc_models where model = 'Grant'`)).length, 1)
      const [issued, repeated] = [auditOf(stage, 'tokens.issued'), auditOf(stage, 'tokens.repeated')]
      assert.deepEqual([issued.filter(({ by }) => by === 'poll').length, repeated.length], [1, 1])
    })

    test('are the same each time, also in two simultaneous answers, and expire when they would have', async (t) => {
      const { stage, authReqId, first } = await collected(t, engine)
      stage.clock.advance(3_000)
      const both = await Promise.all([stage.poll('kiosk', authReqId), stage.poll('kiosk', authReqId)])
      const expected = { ...first.body, expires_in: Number(first.body.expires_in) - 3 }
      assert.deepEqual(
        both.map(({ status, body }) => [status, body]),
        [
          [200, expected],
          [200, expected],
        ],
      )
    })

    test('are given again for ten seconds', async (t) => {
      const { stage, authReqId } = await collected(t, engine)
      stage.clock.advance(9_999)
      assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
      stage.clock.advance(1)
      await assertOver(stage, authReqId)
      await until(async () => {
        stage.clock.advance(10_000)
        return (await heldResponses(stage)) === 0
      })
    })

    test('are given again for as long as the setting says; with 0, not at all and nothing is stored', async (t) => {
      for (const repeatTokens of [0, 1, 60]) {
        const { stage, authReqId } = await collected(t, engine, { requests: { repeatTokens } })
        assert.equal(await heldResponses(stage), repeatTokens === 0 ? 0 : 1)
        if (repeatTokens > 0) {
          stage.clock.advance(repeatTokens * 1000 - 1)
          assert.equal((await stage.poll('kiosk', authReqId)).status, 200, `${repeatTokens} s`)
          stage.clock.advance(1)
        }
        await assertOver(stage, authReqId, `${repeatTokens} s`)
      }
    })

    test('are given again only if the poll was held', async (t) => {
      const { stage, authReqId } = await scene(t, engine)
      await stage.decide(await stage.newestRequest(), 'approved')
      assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
      assert.equal(await heldResponses(stage), 0)
      await assertOver(stage, authReqId)
    })

    test('are not given to another client, or for another auth_req_id, resource or authorization_details', async (t) => {
      const { stage, authReqId, first } = await collected(t, engine)
      const same = { grant_type: CIBA, auth_req_id: authReqId }
      for (const [form, authorization] of [
        [same, credentials.northbank],
        [{ ...same, auth_req_id: `${authReqId}x` }, credentials.kiosk],
        [{ ...same, resource: 'https://api.example.com' }, credentials.kiosk],
        [{ ...same, authorization_details: '[]' }, credentials.kiosk],
      ] as const) {
        const answer = await stage.post('/oauth/token', form, authorization)
        assert.deepEqual([answer.status, answer.body.error], [400, 'invalid_grant'], JSON.stringify(form))
      }
      const stranger = await stage.post('/oauth/token', same, basic('kiosk', 'not its secret'))
      assert.deepEqual([stranger.status, stranger.body.error], [401, 'invalid_client'])
      assert.equal((await stage.poll('kiosk', authReqId)).body.access_token, first.body.access_token)
    })

    const uses: Record<string, (stage: Stage, tokens: Answer['body']) => Promise<number>> = {
      'at userinfo': (stage, { access_token }) => userinfo(stage, access_token),
      'in an introspection': async (stage, { access_token }) =>
        (await stage.post('/oauth/introspect', { token: String(access_token) }, credentials.kiosk)).status,
      'to refresh': async (stage, { refresh_token }) => (await refresh(stage, refresh_token)).status,
      'in a revocation': async (stage, { access_token }) =>
        (await stage.post('/oauth/revoke', { token: String(access_token) }, credentials.kiosk)).status,
    }
    for (const [name, use] of Object.entries(uses)) {
      test(`are not given again once one of them was used: ${name}`, async (t) => {
        const { stage, authReqId, first } = await collected(t, engine)
        assert.equal(await use(stage, first.body), 200)
        assert.equal(await heldResponses(stage), 0)
        await assertOver(stage, authReqId)
      })
    }

    const settings: [requests: { longPoll: number; repeatTokens: number }, isAsked: boolean][] = [
      [{ longPoll: 0, repeatTokens: 10 }, false],
      [{ longPoll: 20, repeatTokens: 0 }, false],
      [{ longPoll: 0, repeatTokens: 0 }, false],
      [{ longPoll: 20, repeatTokens: 10 }, true],
    ]
    for (const [requests, isAsked] of settings) {
      const { longPoll, repeatTokens } = requests
      const name = `longPoll ${longPoll}, repeatTokens ${repeatTokens}`
      test(`look-ups of tokens ${isAsked ? 'ask' : 'do not ask'} whether they are given again: ${name}`, async (t) => {
        const { openDatabase, during } = listenToStatements()
        const stage = await openStage(t, { engine, config: { requests }, parts: { openDatabase } })
        const { auth_req_id } = (await stage.ring('kiosk', offline)).body
        await stage.decide(await stage.newestRequest(), 'approved')
        const { body } = await stage.poll('kiosk', auth_req_id)
        const asked = await during(async () => {
          for (const use of Object.values(uses)) assert.equal(await use(stage, body), 200)
        })
        const lookUps = asked.filter((sql) => sql.includes('from oidc_models found where model = $1 and id_hash = $2'))
        assert.ok(lookUps.length >= Object.keys(uses).length, asked.join('\n'))
        assert.equal(
          lookUps.some((sql) => sql.includes('HeldResponse')),
          isAsked,
        )
      })
    }

    const endings: Record<string, (commands: Commands) => Promise<unknown>> = {
      'the user was locked': ({ endUser }) => endUser(ana.id, 'locked', { by: 'command' }),
      'the user was signed out': ({ endUser }) => endUser(ana.id, 'signed_out', { by: 'command' }),
      'the user was removed': ({ endUser }) => endUser(ana.id, 'removed', { by: 'command' }),
      'the user was erased': ({ endUser }) => endUser(ana.id, 'erased', { by: 'command' }),
      'the client was removed and added again': ({ removeClient }) => removeClient('kiosk'),
    }
    for (const [name, end] of Object.entries(endings)) {
      test(`are not given again once ${name}`, async (t) => {
        const { stage, authReqId } = await collected(t, engine)
        await byCommand(stage, end)
        assert.equal(await heldResponses(stage), 0)
        if (name.startsWith('the client')) await stage.restart()
        await assertOver(stage, authReqId)
      })
    }

    test('are not given again once the user has revoked the approval', async (t) => {
      const { stage, authReqId, requestId } = await collected(t, engine)
      const revoked = await stage.post('/backchannel/revoke', { request_id: requestId }, await bearerOf(stage))
      assert.equal(revoked.body.revoked, true)
      assert.equal(await heldResponses(stage), 0)
      await assertOver(stage, authReqId)
    })

    test('are not given again while the application reports the user as disabled', async (t) => {
      let disabled = false
      const known = async () => ({ id: ana.id, email: ana.email, disabled })
      const { stage, authReqId } = await collected(t, engine, { users: { find: known, findByHint: known } })
      disabled = true
      await assertOver(stage, authReqId)
      disabled = false
      assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
    })

    test('are given again after "sign out everywhere", which keeps approvals', async (t) => {
      const { stage, authReqId, first } = await collected(t, engine)
      const ended = await stage.post('/backchannel/sessions/end', { everywhere: 'true' }, await bearerOf(stage))
      assert.equal(ended.status, 200)
      const { body } = await stage.poll('kiosk', authReqId)
      assert.equal(body.access_token, first.body.access_token)
      assert.equal(await userinfo(stage, body.access_token), 200)
    })

    test('are signed again if their key was revoked meanwhile', async (t) => {
      const { stage, authReqId, first } = await collected(t, engine)
      const keys = async () => (await stage.get('/oauth/jwks')).body as { keys: { kid: string }[] }
      const kid = decodeProtectedHeader(String(first.body.id_token)).kid!
      await rotateAt(stage, times, (needs) => revokeKey(kid, needs))
      await untilNoticed(stage, async () => (await keys()).keys.every((key) => key.kid !== kid))
      const { body } = await stage.poll('kiosk', authReqId)
      await jwtVerify(String(body.id_token), createLocalJWKSet((await keys()) as never))
    })

    test('are given again only with the same DPoP key', async (t) => {
      const { stage, authReqId } = await scene(t, engine)
      const [key, other] = [await newProofKey(), await newProofKey()]
      const poll = async (as: ProofKey | undefined) =>
        pollWith(stage, as && (await proofOf(stage, as)), authReqId, credentials.kiosk)
      const answer = poll(key)
      await holds(stage, 1)
      await stage.decide(await stage.newestRequest(), 'approved')
      const first = await answer
      assert.equal(first.body.token_type, 'DPoP')
      for (const wrong of [other, undefined]) assert.equal((await poll(wrong)).body.error, 'invalid_grant')
      assert.deepEqual((await poll(key)).body.access_token, first.body.access_token)
    })

    test('are given again only with the same certificate', async (t) => {
      const client_secret = newSecret()
      const clients = [pollClient('bound', { client_secret, grant_types: [CIBA, 'refresh_token'], ...cert })]
      const stage = await openTlsStage(t, { engine, config: { clients, requests: { longPoll: 20 } } })
      const [own, other] = [await certify({ subject: 'CN=bound' }), await certify({ subject: 'CN=bound' })]
      const headers = { authorization: basic('bound', client_secret) }
      const caller = stage.as(own)
      const asked = await caller.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, headers)
      const form = { grant_type: CIBA, auth_req_id: String(asked.body.auth_req_id) }
      const answer = caller.post('/oauth/token', form, headers)
      const ops = stage.as()
      await until(async () => (await ops.get('/metrics')).text.includes('doorbell_polls_held 1\n'))
      const service = { authorization: credentials.phoneService }
      const { body } = await ops.post('/backchannel/authinfo', { login_hint: 'ana' }, service)
      const [{ request_id }] = body.requests as [{ request_id: string }]
      await ops.post('/backchannel/complete', { login_hint: 'ana', request_id, status: 'approved' }, service)
      const first = await answer
      assert.equal(first.status, 200, first.text)
      assert.equal((await stage.as(other).post('/oauth/token', form, headers)).body.error, 'invalid_grant')
      assert.equal((await ops.post('/oauth/token', form, headers)).status, 400)
      const again = await caller.post('/oauth/token', form, headers)
      assert.equal(again.body.access_token, first.body.access_token)
    })

    test('are not readable in the database, even with the configured secret: the auth_req_id is needed', async (t) => {
      const { stage, authReqId, first } = await collected(t, engine)
      const [row] = await rowsOf(stage, `select * from oidc_models where model = 'HeldResponse'`)
      const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
      const aad = `oidc_models/HeldResponse/${row!.id_hash}`
      assert.throws(() => vault.open(String(row!.sealed), aad), { name: 'OtherSecretError' })
      const opened = vault.sealingWith(authReqId).open(String(row!.sealed), aad)
      assert.equal(JSON.parse(opened).response.access_token, first.body.access_token)
    })
  })
}

test('a held poll and its redemption need the same statements, whether or not the tokens can be given again', async (t) => {
  const [off, on] = await Promise.all([0, 10].map((repeatTokens) => statementsOf(t, repeatTokens)))
  assert.deepEqual(on, off)
  assert.equal(on!.redeeming.filter((sql) => sql.startsWith('insert into oidc_models')).length, 1)
})

/**
 * Resolves to the statements of a held poll until it is answered with tokens, and to those of polls that get no tokens.
 */
async function statementsOf(t: TestContext, repeatTokens: number) {
  const statements = listenToStatements()
  const parts = { openDatabase: statements.openDatabase }
  const stage = await openStage(t, { config: { requests: { longPoll: 20, repeatTokens } }, parts })
  const { auth_req_id } = (await stage.ring('kiosk')).body
  const answer = stage.poll('kiosk', auth_req_id)
  await holds(stage, 1)
  const requestId = await stage.newestRequest()
  const redeeming = await statements.during(async () => {
    await stage.decide(requestId, 'approved')
    assert.equal((await answer).status, 200)
  })
  const denied = (await stage.ring('kiosk')).body.auth_req_id
  await stage.decide(await stage.newestRequest(), 'denied')
  const refused = await statements.during(async () => {
    for (const id of ['unknown', denied]) assert.equal((await stage.poll('kiosk', id)).status, 400)
  })
  return { redeeming: redeeming.sort(), refused }
}

describe('on two nodes', () => {
  const postgres = engines.find(({ name }) => name === 'postgres')!

  test('one node answers a client that has disconnected, and the other node gives the same tokens', async (t) => {
    const { stage, authReqId, first, options } = await collected(t, postgres)
    const other = await openNeighbour(t, stage, options)
    const form = { grant_type: CIBA, auth_req_id: authReqId }
    assert.deepEqual((await other.post('/oauth/token', form, credentials.kiosk)).body, first.body)
    assert.equal(await userinfo(stage, first.body.access_token), 200)
    assert.equal((await other.post('/oauth/token', form, credentials.kiosk)).body.error, 'invalid_grant')
  })

  test('both hold the poll of one client: whichever redeems it, both answer with the same tokens', async (t) => {
    const { stage, authReqId, options } = await scene(t, postgres)
    const other = await openNeighbour(t, stage, options)
    const form = { grant_type: CIBA, auth_req_id: authReqId }
    const abandoned = stage.poll('kiosk', authReqId)
    await holds(stage, 1)
    stage.clock.advance(5_000)
    const repeated = other.post('/oauth/token', form, credentials.kiosk)
    await holds(other, 1)
    await stage.decide(await stage.newestRequest(), 'approved')
    const [one, two] = await Promise.all([abandoned, repeated])
    assert.deepEqual([one.status, two.status], [200, 200], two.text)
    assert.deepEqual(one.body, two.body)
  })
})

/** A stage that holds polls, and a pending request of Kiosk. */
async function scene(t: TestContext, engine: Engine, config: ConfigInput = {}) {
  const options = { config: { ...config, requests: { longPoll: 20, ...config.requests } } }
  const stage = await openStage(t, { engine, ...options })
  const authReqId = String((await stage.ring('kiosk', offline)).body.auth_req_id)
  return { stage, authReqId, options }
}

/**
 * Opens a stage on which a request is approved and its tokens are collected. The first answer arrived, but the client
 * behaves as if it had been lost.
 */
async function collected(t: TestContext, engine: Engine, config: ConfigInput = {}) {
  const { stage, authReqId, options } = await scene(t, engine, config)
  const answer = stage.poll('kiosk', authReqId)
  await holds(stage, 1)
  const requestId = await stage.newestRequest()
  await stage.decide(requestId, 'approved')
  const first = await answer
  assert.equal(first.status, 200, first.text)
  return { stage, authReqId, requestId, first, options }
}

const holds = ({ url }: Pick<Stage, 'url'>, count: number) =>
  until(async () => (await (await fetch(`${url}/metrics`)).text()).includes(`doorbell_polls_held ${count}\n`))

async function heldResponses(stage: Stage): Promise<number> {
  return (await rowsOf(stage, `select model from oidc_models where model = 'HeldResponse'`)).length
}

async function assertOver(stage: Stage, authReqId: string, about?: string): Promise<void> {
  const { status, body } = await stage.poll('kiosk', authReqId)
  assert.deepEqual([status, body.error], [400, 'invalid_grant'], about)
}

async function userinfo(stage: Stage, token: unknown): Promise<number> {
  return (await stage.get('/oauth/userinfo', { authorization: `Bearer ${token}` })).status
}

const refresh = (stage: Stage, token: unknown) =>
  stage.post('/oauth/token', { grant_type: 'refresh_token', refresh_token: String(token) }, credentials.kiosk)

const pollAt = (url: string, authReqId: string, signal: AbortSignal) =>
  fetch(`${url}/oauth/token`, {
    method: 'POST',
    headers: { authorization: basic('kiosk', secrets.kiosk) },
    body: new URLSearchParams({ grant_type: CIBA, auth_req_id: authReqId }),
    signal,
  })
