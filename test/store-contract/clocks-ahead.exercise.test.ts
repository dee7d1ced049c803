/**
 * The clock of a node, or of the machine that runs a command, is five minutes ahead: what this node or command ends or
 * removes.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { AuthenticationRequest } from '../../src/ciba/authentication-request/authentication-request.ts'
import {
  createOpenRequestStore,
  type OpenRequestStore,
} from '../../src/ciba/authentication-request/open-request-store.ts'
import { createAbsentUsers } from '../../src/ciba/decision/absent-users.ts'
import { createBlockClient } from '../../src/ciba/decision/block-client.ts'
import type { DecisionNeeds } from '../../src/ciba/decision/decide.ts'
import { createRevokeApproval } from '../../src/ciba/decision/revoke-approval.ts'
import { createEndUser, type UserEnding } from '../../src/endings/end-user.ts'
import { createOidcModelStore } from '../../src/openid-provider/oidc-model-store.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { aheadOf } from '../support/clock.ts'
import { engines } from '../support/engines.ts'
import { allRows, approval, furnished, newRequest } from '../support/rows.ts'

const minute = 60_000
const ahead = 5 * minute

type Status = 'pending' | 'approved'
type Needs = DecisionNeeds & { database: Database; openRequests: OpenRequestStore }

const endings: { what: string; of: Status; end: (needs: Needs, request: AuthenticationRequest) => Promise<unknown> }[] =
  [
    ...(['signed_out', 'locked', 'removed'] as UserEnding[]).map((ending) => ({
      what: `a user who is ${ending}`,
      of: 'approved' as Status,
      end: (needs: Needs) => createEndUser(needs)('user-ana', ending, { by: 'command' }),
    })),
    {
      what: 'a user who is locked',
      of: 'pending',
      end: (needs) => createEndUser(needs)('user-ana', 'locked', { by: 'command' }),
    },
    {
      what: 'a client that is blocked',
      of: 'pending',
      end: (needs) => createBlockClient(needs)({ userId: 'user-ana', clientId: 'kiosk', address: '::1' }),
    },
    {
      what: 'a user who is gone from the directory of the application',
      of: 'pending',
      end: (needs) => createAbsentUsers({ ...needs, findUser: async () => null }).look(),
    },
    {
      what: 'an approval that is revoked',
      of: 'approved',
      end: (needs, request) =>
        createRevokeApproval({ ...needs, removeIssued: createOidcModelStore(needs.database).removeByRequest })({
          request,
          tokenHash: undefined,
          address: '::1',
        }),
    },
  ]

for (const engine of engines) {
  describe(`a clock that is five minutes ahead, on ${engine.name}`, () => {
    for (const { what, of, end } of endings) {
      test(`leaves no ${of} request of ${what}, though only four minutes are left`, async (t) => {
        const { one, clock } = await furnished(t, engine)
        const { database, requests } = one
        const request = newRequest(clock.now(), { expiresAt: clock.now() + 4 * minute })
        await requests.accept(request, request.id, { maxOpenPerUser: 9 })
        if (of === 'approved') await requests.settle(request.id, approval(clock.now()))
        const openRequests = createOpenRequestStore(database)
        const needs = { ...one.needs, database, openRequests, clock: aheadOf(clock, ahead) }
        await end(needs, { ...request, status: of })
        const [row] = await allRows(database, 'backchannel_auth_requests')
        assert.equal(row?.status, 'denied')
        assert.equal(await requests.redeem(request.id, clock.now(), []), false)
      })
    }
  })
}
