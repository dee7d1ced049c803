/**
 * Limits at the endpoints that oidc-provider answers. Neither one client nor callers that prove nothing can take the
 * slots that other clients need.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { UserHooks } from '../../src/user/user.ts'
import { certify } from '../support/certificates.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { callWith, newProofKey, pollWith, proofOf } from '../support/proofs.ts'
import { type Answer, ana, credentials, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'
import { ath } from './dpop-clients.ts'

const junk = 'unknown'
const networks = (from: string) => ({ 'x-forwarded-for': from })

/** A server with eight slots. While the gate is closed, no code and no token can be looked up. */
async function open(t: TestContext, engine: Engine) {
  const gate = createGate()
  const open: typeof openDatabase = async (...given) => {
    const database = await openDatabase(...given)
    const { read } = database
    database.read = async (sql, values) => {
      if (/from oidc_models\b.*\bid_hash = /s.test(sql)) await gate.pass()
      return read(sql, values)
    }
    return database
  }
  const proxy = { trust: ['127.0.0.1', '::1'], clientCertificateHeader: 'x-client-cert' }
  const config = { limits: { inFlight: 8 }, proxy }
  const stage = await openStage(t, { engine, config, parts: { openDatabase: open } })
  const under: Promise<Answer>[] = []
  t.after(() => {
    gate.release()
    return Promise.allSettled(under)
  })
  // From now on, the server knows this address as an address of both clients.
  for (const client of ['kiosk', 'till'] as const) await stage.poll(client, junk)
  return {
    stage,
    gate,
    /** Makes eight calls at once. Resolves when some wait at the gate and all others have been refused. */
    async callEightTimes(call: () => Promise<Answer>, held: number) {
      gate.hold()
      const calls = Array.from({ length: 8 }, call)
      under.push(...calls)
      const refused: Answer[] = []
      for (const each of calls) each.then((answer) => refused.push(answer))
      await gate.waiting(held)
      await until(() => refused.length === 8 - held)
      for (const { status, body } of refused) {
        assert.deepEqual([status, body.error], [503, 'temporarily_unavailable'])
      }
    },
    /** Opens the gate. Resolves to the status of each call. */
    async statuses() {
      gate.release()
      return (await Promise.all(under)).map(({ status }) => status)
    },
  }
}

/** Asserts that another client can poll from the same address. */
async function assertOthersAreServed(stage: Stage) {
  const { body, text } = await stage.poll('kiosk', junk)
  assert.equal(body.error, 'invalid_grant', text)
}

/** For each way to send the access token: resolves to a function that calls userinfo with a valid token of Kiosk. */
const waysToSend: Record<string, (stage: Stage) => Promise<() => Promise<Answer>>> = {
  async 'in the header'(stage) {
    const authorization = `Bearer ${await tokenOfKiosk(stage)}`
    return () => stage.get('/oauth/userinfo', { authorization })
  },
  async 'in the body'(stage) {
    const access_token = await tokenOfKiosk(stage)
    return () => stage.post('/oauth/userinfo', { access_token })
  },
  async 'with a DPoP proof'(stage) {
    const key = await newProofKey()
    const token = await tokenOfKiosk(stage, await proofOf(stage, key))
    const claims = { htm: 'GET', htu: `${stage.url}/oauth/userinfo`, ath: ath(token) }
    const proofs = await Promise.all(Array.from({ length: 8 }, () => proofOf(stage, key, { claims })))
    return () => stage.get('/oauth/userinfo', { authorization: `DPoP ${token}`, dpop: proofs.pop()! })
  },
}

async function tokenOfKiosk(stage: Stage, proof?: string): Promise<string> {
  const { auth_req_id } = (await stage.ring('kiosk')).body
  await stage.decide(await stage.newestRequest(), 'approved')
  return String((await pollWith(stage, proof, auth_req_id, credentials.kiosk)).body.access_token)
}

const count = (statuses: number[], status: number) => statuses.filter((each) => each === status).length

for (const engine of engines) {
  describe(`calls that are forwarded, on ${engine.name}`, () => {
    const ofOneClient: [name: string, path: string, form: Record<string, string>, status: number][] = [
      ['introspection', '/oauth/introspect', { token: junk }, 200],
      ['revocation', '/oauth/revoke', { token: junk }, 200],
      ['refresh', '/oauth/token', { grant_type: 'refresh_token', refresh_token: junk }, 400],
    ]
    for (const [name, path, form, status] of ofOneClient) {
      test(`${name}: one client gets half of the slots`, async (t) => {
        const { stage, callEightTimes, statuses } = await open(t, engine)
        let number = 0
        // Each call comes from an address that is not known as an address of the client. So the call is counted for the
        // client only after the client is authenticated.
        const call = () => {
          const from = networks(`198.51.${++number}.7`)
          return callWith(stage, 'POST', path, { authorization: credentials.till, ...from }, form)
        }
        await callEightTimes(call, 4)
        await assertOthersAreServed(stage)
        assert.equal(count(await statuses(), status), 4)
        assert.equal((await stage.post(path, form, credentials.till)).status, status, 'the share is free again')
      })
    }

    for (const name of ['only names', 'has a certificate and names']) {
      test(`a caller that ${name} a public client counts as one that proves nothing`, async (t) => {
        const { stage, callEightTimes, statuses } = await open(t, engine)
        const { x5c } = await certify({ subject: 'CN=anybody' })
        const headers = name === 'only names' ? {} : { 'x-client-cert': `:${x5c}:` }
        const revoke = () => callWith(stage, 'POST', '/oauth/revoke', headers, { client_id: 'phone-app', token: junk })
        await callEightTimes(revoke, 3)
        await assertOthersAreServed(stage)
        assert.equal(count(await statuses(), 200), 3)
        assert.equal((await revoke()).status, 200)
      })
    }

    test('userinfo with an unknown token: one network gets three of eight slots', async (t) => {
      const { stage, gate, callEightTimes, statuses } = await open(t, engine)
      const call = (from: string) =>
        stage.get('/oauth/userinfo', { authorization: `Bearer ${junk}`, ...networks(from) })
      await callEightTimes(() => call('198.51.100.7'), 3)
      await assertOthersAreServed(stage)
      const other = call('203.0.113.7')
      await gate.waiting(4)
      await assertOthersAreServed(stage)
      assert.equal(count(await statuses(), 401), 3)
      assert.equal((await other).status, 401, 'another network is served')
    })

    for (const [name, callOf] of Object.entries(waysToSend)) {
      test(`userinfo with a token, ${name}: the client that it was issued to gets half of the slots`, async (t) => {
        const gate = createGate()
        t.after(gate.release)
        const users: UserHooks = {
          async find(id) {
            await gate.pass()
            return id === ana.id ? ana : null
          },
          findByHint: async () => ana,
        }
        const stage = await openStage(t, { engine, config: { limits: { inFlight: 8 }, users } })
        const call = await callOf(stage)
        gate.hold()
        const calls: Promise<Answer>[] = []
        for (let number = 1; number <= 4; number++) {
          calls.push(call())
          // A refused call does not wait at the gate, so its answer ends the wait.
          await Promise.race([gate.waiting(number), calls.at(-1)])
        }
        // Half of the slots are taken, so the client has reached its limit.
        let fifth: Answer | undefined
        call().then((answer) => (fifth = answer))
        await until(() => fifth !== undefined)
        assert.equal(fifth!.status, 503)
        const { body, text } = await stage.poll('northbank', junk)
        assert.equal(body.error, 'invalid_grant', text)
        gate.release()
        for (const { status } of await Promise.all(calls)) assert.equal(status, 200)
      })
    }

    test('userinfo with an unknown token and a DPoP proof: three of eight slots', async (t) => {
      const { stage, callEightTimes, statuses } = await open(t, engine)
      const key = await newProofKey()
      const claims = { htm: 'GET', htu: `${stage.url}/oauth/userinfo` }
      const proofs = await Promise.all(Array.from({ length: 8 }, () => proofOf(stage, key, { claims })))
      await callEightTimes(
        () => stage.get('/oauth/userinfo', { authorization: `Bearer ${junk}`, dpop: proofs.pop()! }),
        3,
      )
      await assertOthersAreServed(stage)
      assert.equal(count(await statuses(), 401), 3)
    })

    test('userinfo with an unknown token in the body: three of eight slots', async (t) => {
      const { stage, callEightTimes, statuses } = await open(t, engine)
      await callEightTimes(() => stage.post('/oauth/userinfo', { access_token: junk }), 3)
      await assertOthersAreServed(stage)
      assert.equal(count(await statuses(), 401), 3)
    })

    test('an unknown code with a certificate and a DPoP proof: three of eight slots', async (t) => {
      const { stage, callEightTimes, statuses } = await open(t, engine)
      const key = await newProofKey()
      const proofs = await Promise.all(Array.from({ length: 8 }, () => proofOf(stage, key)))
      const { x5c } = await certify({ subject: 'CN=anybody' })
      const form = { grant_type: 'authorization_code', client_id: 'phone-app', code: junk }
      const call = () =>
        callWith(stage, 'POST', '/oauth/token', { dpop: proofs.pop()!, 'x-client-cert': `:${x5c}:` }, form)
      await callEightTimes(call, 3)
      await assertOthersAreServed(stage)
      assert.equal(count(await statuses(), 400), 3)
    })
  })
}
