/** Several nodes start at the same time, with the same changed configuration: each change of a user is made once. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { createNoticesOfChange } from '../../src/authentication-device/channels/account-notice.ts'
import { endUnnamedUsers } from '../../src/endings/configured-users.ts'
import { createEndUser } from '../../src/endings/end-user.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { ConfiguredUser } from '../../src/user/user.ts'
import { createUserGenerationStore } from '../../src/user/user-generation-store.ts'
import { type Engine, engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { furnished, vault } from '../support/rows.ts'

const ana: ConfiguredUser = { id: 'user-ana', username: 'ana', password: 'a long password 3490' }
const ben: ConfiguredUser = { id: 'user-ben', username: 'ben', password: 'a long password 7221' }
const changes: [name: string, event: string, users: ConfiguredUser[]][] = [
  ['a changed password', 'user.signed_out', [{ ...ana, password: 'another long password 8731' }, ben]],
  ['a disabled user', 'user.locked', [{ ...ana, disabled: true }, ben]],
  ['a removed user', 'user.removed', [ben]],
]

for (const engine of engines) {
  describe(`nodes that start at the same time, on ${engine.name}`, () => {
    for (const [name, event, users] of changes) {
      for (const count of [2, 5]) {
        test(`${name}: one of ${count} nodes makes the change`, async (t) => {
          const { start, gate, events, generation, notices } = await openNodes(t, engine, count)
          gate.hold()
          const starts = Array.from({ length: count }, (_, node) => start(node, users))
          // Each node has read the stored users, and no node has changed a user yet.
          await gate.waiting(count)
          gate.release()
          await Promise.all(starts)
          assert.deepEqual(events(), [{ event, user: ana.id, by: 'configuration' }])
          assert.equal(await generation(), 1)
          assert.equal(await notices(), event === 'user.signed_out' ? 1 : 0)
        })
      }
    }

    test('a node that is slower than another ends nothing that began after the ending', async (t) => {
      for (const [name, event, users] of changes.slice(0, 2)) {
        const { start, gate, events, generation } = await openNodes(t, engine, 2)
        gate.hold()
        const slower = start(1, users)
        await gate.waiting(1)
        await start(0, users, { held: false })
        assert.equal(await generation(), 1, name)
        gate.release()
        await slower
        assert.equal(await generation(), 1, name)
        assert.equal(events().length, 1, event)
      }
    })
  })
}

/** Nodes on one database on which Ana and Ben are already known. */
async function openNodes(t: TestContext, engine: Engine, count: number) {
  const gate = createGate()
  t.after(gate.release)
  const heard: object[] = []
  let isHeld = true
  const open: typeof openDatabase = async (...about) => {
    const database = await openDatabase(...about)
    const { step } = database
    database.step = async (first, options) => {
      if (isHeld && /from backchannel_auth_requests\s+where user_id = \$1/.test(first.sql)) await gate.pass()
      return step(first, options)
    }
    return database
  }
  const { nodes, clock, log } = await furnished(t, engine, { count, open })
  const audit = (event: object) => void heard.push(event)

  async function start(node: number, users: ConfiguredUser[], { held = true } = {}) {
    const { database } = nodes[node]!
    const endUser = createEndUser({ database, vault, clock, log, audit })
    const noticesOfChange = createNoticesOfChange({ kinds: ['account_email'], vault, clock })
    isHeld = held
    try {
      await endUnnamedUsers(users, { database, endUser, noticesOfChange, vault, now: clock.now() })
    } finally {
      isHeld = true
    }
  }
  await start(0, [ana, ben])
  const generations = createUserGenerationStore(nodes[0]!.database)
  return {
    start,
    gate,
    events: () => heard,
    notices: async () =>
      (await nodes[0]!.database.read("select id from notifications where kind = 'account_email'")).length,
    generation: async () => (await generations.find(ana.id)).generation,
  }
}
