/** Nodes whose clocks differ by minutes: what can be used once is not used twice, and limits stay limits. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { asserted, assertionOf, isBelieved, newKey, pollClient } from '../support/assertions.ts'
import { aheadOf, machineClock } from '../support/clock.ts'
import { engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { newProofKey, proofOf } from '../support/proofs.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, CIBA, openStage, type Stage } from '../support/stage.ts'
import { asWallet, cast } from './dpop-clients.ts'
import { minute } from './limited-requests.ts'

const postgres = engines.find(({ name }) => name === 'postgres')!
const key = await newKey('one')
const jwks = { keys: [key.publicJwk] }
const config = {
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

/** Each resolves to a function that makes the same call again. */
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

/** Opens a node whose clock is ahead of the clock of the database and of the stage. */
function openAhead(t: Parameters<typeof openNeighbour>[0], stage: Stage, ahead: number, more = config) {
  const machine = aheadOf(machineClock, ahead)
  const open: typeof openDatabase = (url, surroundings) => openDatabase(url, { ...surroundings, machine })
  return openNeighbour(t, stage, { config: more }, { clock: aheadOf(stage.clock, ahead), openDatabase: open })
}
