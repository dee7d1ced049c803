/**
 * Nodes whose clocks differ by minutes. A value that can be used once is not used twice, and limits are not exceeded.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { asserted, assertionOf, isBelieved, newKey, pollClient } from '../support/assertions.ts'
import { aheadOf, machineClock } from '../support/clock.ts'
import { engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { newProofKey, proofOf } from '../support/proofs.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, ana, basic, ben, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { asWallet, cast } from './dpop-clients.ts'
import { openSignIn } from './held-hashing.ts'
import { minute, second } from './limited-requests.ts'
import { calls } from './registration-calls.ts'
import { secret } from './user-codes.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!
const key = await newKey('one')
const jwks = { keys: [key.publicJwk] }
const config: ConfigInput = {
  clients: [
    ...cast,
    pollClient('signer', {
      token_endpoint_auth_method: 'private_key_jwt',
      jwks,
      backchannel_authentication_request_signing_alg: 'ES256',
    }),
  ],
}
const byAssertion = async (stage: Stage) =>
  asserted(await assertionOf(stage, 'signer', { key: key.privateKey, header: { kid: 'one' } }))
const unknown = { grant_type: CIBA, auth_req_id: 'unknown' }

/**
 * For each value that can be used once: resolves to a function that sends a call with this value. Each call is the
 * same.
 */
const usedOnce: Record<string, (stage: Stage) => Promise<() => Promise<Answer>>> = {
  async 'a client assertion'(stage) {
    const form = { ...unknown, ...(await byAssertion(stage)) }
    return () => stage.post('/oauth/token', form)
  },
  async 'a DPoP proof'(stage) {
    const dpop = await proofOf(stage, await newProofKey())
    const headers = { authorization: asWallet, dpop, 'content-type': 'application/x-www-form-urlencoded' }
    return async () => {
      const body = new URLSearchParams(unknown)
      const response = await fetch(`${stage.url}/oauth/token`, { method: 'POST', headers, body })
      return { status: response.status, body: await response.json() } as Answer
    }
  },
  async 'a signed request'(stage) {
    const request = await signedRequest(stage, 'signer', { key: key.privateKey, header: { kid: 'one' } })
    return async () => stage.post('/backchannel/authorize', { request, ...(await byAssertion(stage)) })
  },
}

for (const engine of engines) {
  for (const [what, begin] of Object.entries(usedOnce)) {
    test(`${what} is not accepted again after old rows were removed by a clock ten minutes ahead, on ${engine.name}`, async (t) => {
      const stage = await openStage(t, { engine, config })
      const call = await begin(stage)
      const first = await call()
      assert.ok(isBelieved(first), JSON.stringify(first.body))
      stage.clock.advance(10 * minute + 1)
      await stage.doorbell.prune()
      stage.clock.setBack(10 * minute)
      const again = await call()
      assert.ok(!isBelieved(again), JSON.stringify(again.body))
      assert.match(String(again.body.error_description), /used before/)
    })
  }
}

describe('a node that is a day ahead of the database', () => {
  for (const [what, begin] of Object.entries(usedOnce)) {
    test(`does not remove too early ${what}`, async (t) => {
      const stage = await openStage(t, { engine: postgres, config })
      const ahead = await openAhead(t, stage, 24 * 60 * minute)
      const call = await begin(stage)
      assert.ok(isBelieved(await call()))
      await ahead.doorbell.prune()
      assert.match(String((await call()).body.error_description), /used before/)
    })
  }
})

describe('a client that calls two nodes in turn, whose clocks differ', () => {
  const limited: ConfigInput = {
    proxy: { trust: ['127.0.0.1/32', '::1'] },
    users: [{ ...ana, user_code: 'heron-4711' }, ben],
    clients: [pollClient('booth', { client_secret: secret, backchannel_user_code_parameter: true })],
    userCodes: { maxTries: 5 },
    limits: { perClient: { unknownPerMinute: 5 }, signIn: { perName: 5 } },
    registration: { mode: 'open', perHour: 1 },
  }

  /**
   * For each limit: how many attempts are allowed, and how to prepare attempts. `open` resolves to a function that
   * makes attempt `n` at the node whose turn it is, and resolves to the status of the response.
   */
  const attempts: Record<string, { most: number; open(turns: Stage): Promise<(n: number) => Promise<number>> }> = {
    'has five wrong user codes checked': {
      most: 5,
      open: async (turns) => async (n) => {
        const form = { scope: 'openid', login_hint: 'ana', user_code: `${1000 + n}` }
        return (await turns.post('/backchannel/authorize', form, basic('booth', secret))).status
      },
    },
    'learns of five users that they are unknown': {
      most: 5,
      open: async (turns) => async (n) => {
        const form = { scope: 'openid', login_hint: `nobody${n}` }
        return (await turns.post('/backchannel/authorize', form, credentials.kiosk)).status
      },
    },
    'makes ten attempts to register': {
      most: 10,
      open: async (turns) => async () => (await calls(turns).register({ redirect_uris: ['nonsense'] })).status,
    },
    'tries five passwords for a name': {
      most: 5,
      async open(turns) {
        const signIn = await openSignIn(turns)
        return async () => (await signIn('198.51.100.1', 'ana')).status
      },
    },
  }

  for (const ahead of [-61 * second, 61 * second, 5 * minute, 25 * 60 * minute]) {
    for (const [what, { most, open }] of Object.entries(attempts)) {
      // With this difference, a sign-in that was begun at one node has expired at the other node.
      if (what.includes('passwords') && ahead > 10 * minute) continue
      test(`${what}, and no more (${ahead / second} seconds)`, async (t) => {
        const stage = await openStage(t, { engine: postgres, config: limited })
        const nodes = [stage, await openAhead(t, stage, ahead, limited)]
        let turn = 0
        const turns: Stage = Object.create(stage, {
          url: { get: () => nodes[turn]!.url },
          post: {
            value: (path: string, form: Record<string, string>, by: string) => nodes[turn]!.post(path, form, by),
          },
        })
        const attempt = await open(turns)
        const statuses: number[] = []
        for (let n = 0; n < 3 * most; n++) {
          stage.clock.advance(10)
          turn = n % 2
          statuses.push(await attempt(n))
        }
        const refused = statuses.slice(most)
        assert.ok(
          statuses.slice(0, most).every((status) => [400, 401].includes(status)),
          String(statuses),
        )
        assert.ok(
          refused.every((status) => [403, 429].includes(status)),
          String(statuses),
        )
      })
    }
  }
})

describe('the pause after a denial applies at each node, if their clocks differ', () => {
  for (const ahead of [-5 * minute, 61 * second, 5 * minute]) {
    for (const denied of ['here', 'there'] as const) {
      test(`denied ${denied}, clock of the other node + ${ahead / second} seconds`, async (t) => {
        const limits = { pauseAfterDenial: { first: 30, longest: 3600 } }
        const stage = await openStage(t, { engine: postgres, config: { limits } })
        const other = await openAhead(t, stage, ahead, { limits })
        assert.equal((await stage.ring('kiosk', { requested_expiry: '3600' })).status, 200)
        const form = { login_hint: 'ana', request_id: await stage.newestRequest(), status: 'denied' }
        const decidedAt = denied === 'here' ? stage : other
        assert.equal((await decidedAt.post('/backchannel/complete', form, credentials.phoneService)).status, 200)
        for (const node of [stage, other]) {
          const again = await node.post(
            '/backchannel/authorize',
            { scope: 'openid', login_hint: 'ana' },
            credentials.kiosk,
          )
          assert.equal(again.status, 429, again.text)
          // Each node measures the clock of the database with an error of some milliseconds.
          assert.ok(Math.abs(Number(again.headers.get('retry-after')) - 30) <= 1)
        }
        stage.clock.advance(32 * second)
        assert.equal((await stage.ring('kiosk')).status, 200)
      })
    }
  }
})

/** Opens a node whose clock is ahead of the clock of the database and of the stage. */
function openAhead(t: Parameters<typeof openNeighbour>[0], stage: Stage, ahead: number, more: ConfigInput = config) {
  const machine = aheadOf(machineClock, ahead)
  const open: typeof openDatabase = (url, surroundings) => openDatabase(url, { ...surroundings, machine })
  return openNeighbour(t, stage, { config: more }, { clock: aheadOf(stage.clock, ahead), openDatabase: open })
}
