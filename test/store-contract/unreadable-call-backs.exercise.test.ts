/**
 * The values of a request for its notification cannot be decrypted, for instance after a change of the secret. The
 * request ends like any other request, but its client gets no notification.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createOpenRequestStore } from '../../src/ciba/authentication-request/open-request-store.ts'
import { createBlockClient } from '../../src/ciba/decision/block-client.ts'
import { expire } from '../../src/ciba/decision/decide.ts'
import { createRevokeApproval } from '../../src/ciba/decision/revoke-approval.ts'
import { createEndUser, type UserEnding } from '../../src/endings/end-user.ts'
import { createOidcModelStore } from '../../src/openid-provider/oidc-model-store.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { allRows, approval, furnished, newRequest } from '../support/rows.ts'

type Stage = Awaited<ReturnType<typeof furnished>>
type Request = ReturnType<typeof newRequest>

const another = createVault(Buffer.alloc(32, 9).toString('base64url'))

const endUser =
  (ending: UserEnding) =>
  ({ one, clock, log }: Stage) =>
    createEndUser({ ...one.needs, database: one.database, clock, log })('user-ana', ending, { by: 'command' })

/** The events that end the requests, each with the status that follows. */
const endings: Record<string, [status: string, end: (stage: Stage, damaged: Request) => Promise<unknown>]> = {
  'its user is locked': ['denied', endUser('locked')],
  'its user is removed': ['denied', endUser('removed')],
  'its user is erased': ['denied', endUser('erased')],
  'its user blocks the client': [
    'denied',
    ({ one }) => createBlockClient(one.needs)({ userId: 'user-ana', clientId: 'northbank', address: '::1' }),
  ],
  'its user reports the client': [
    'denied',
    async ({ one }, { id }) => {
      const answer = { requestId: id, userId: 'user-ana', outcome: 'denied', decidedBy: 'user' } as const
      assert.deepEqual(await one.decide({ ...answer, reported: true }), { kind: 'settled', status: 'denied' })
      return true
    },
  ],
  'its deadline passes': [
    'expired',
    async ({ one, clock }) => {
      clock.advance(600_000)
      const over = await one.requests.runOut(clock.now(), 9)
      const settled = await Promise.all(over.map((request) => expire(request, one.needs)))
      return settled.length === 2 && settled.every(Boolean)
    },
  ],
}

for (const engine of engines) {
  describe(`a request with an unreadable call-back, on ${engine.name}`, () => {
    for (const [how, [status, end]] of Object.entries(endings)) {
      test(`ends when ${how}, together with another one, and without a notification`, async (t) => {
        const { stage, damaged, intact, statusOf } = await scene(t, engine)
        assert.equal(await end(stage, damaged), true)
        assert.equal(await statusOf(damaged), status)
        assert.equal(await statusOf(intact), status)
        const [line, ...others] = stage.logLines.filter((line) => line.includes('notification.unreadable'))
        assert.deepEqual(others, [])
        assert.equal(JSON.parse(line!).request, damaged.id)
        const sent = await allRows(stage.one.database, 'notifications')
        assert.deepEqual(
          sent.map(({ subject }) => subject),
          [intact.id],
        )
      })
    }

    test('can be approved, denied and revoked, if the client can poll for the result', async (t) => {
      const { stage, damaged, statusOf } = await scene(t, engine, 'ping')
      const { one, clock } = stage
      const answer = { requestId: damaged.id, userId: 'user-ana', decidedBy: 'user' } as const
      assert.equal((await one.decide({ ...answer, outcome: 'approved' })).kind, 'settled')
      const removeIssued = createOidcModelStore(one.database).removeByRequest
      const revoke = createRevokeApproval({
        ...one.needs,
        openRequests: createOpenRequestStore(one.database),
        removeIssued,
      })
      const request = (await one.requests.find(damaged.id))!
      assert.equal(await revoke({ request, tokenHash: undefined, address: '::1' }), true)
      assert.equal(await statusOf(damaged), 'denied')
      assert.equal(await one.requests.settle(damaged.id, approval(clock.now())), false)
    })

    test('can be denied, but not approved, if its client is notified by push only', async (t) => {
      const { stage, damaged, statusOf } = await scene(t, engine)
      const answer = { requestId: damaged.id, userId: 'user-ana', decidedBy: 'user' } as const
      await assert.rejects(stage.one.decide({ ...answer, outcome: 'approved' }), { name: 'OtherSecretError' })
      assert.equal(await statusOf(damaged), 'pending')
      assert.equal((await stage.one.decide({ ...answer, outcome: 'denied' })).kind, 'settled')
      assert.equal(await statusOf(damaged), 'denied')
    })
  })
}

/**
 * Two requests of one push client about one user. The values of the first request were encrypted with another secret.
 */
async function scene(t: Parameters<typeof furnished>[0], engine: Parameters<typeof furnished>[1], mode?: 'ping') {
  const stage = await furnished(t, engine)
  const { one, clock } = stage
  const deliveryMode = mode ?? 'push'
  const make = () => ({ ...newRequest(clock.now(), { deliveryMode }), clientId: 'northbank' })
  const damaged = { ...make(), callBackSealed: another.seal('{}', 'another place') }
  const intact = make()
  for (const request of [damaged, intact]) {
    assert.equal(await one.requests.accept(request, request.id, { maxOpenPerUser: 9 }), true)
  }
  return { stage, damaged, intact, statusOf: async ({ id }: Request) => (await one.requests.find(id))?.status }
}
