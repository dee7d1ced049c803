/** A user is removed, and another person gets the id: this person sees none of the former user's decisions. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createDecisionStore } from '../../src/ciba/decision/consent-history-store.ts'
import { exportUser } from '../../src/endings/export-user.ts'
import { byCommand, dora } from '../support/commands.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ben, openStage, type Stage } from '../support/stage.ts'

const another = { ...dora, name: 'Dorothea', password: 'of another person 5508' }
const returning = { ...dora, same_person: true }
type User = typeof dora & { same_person?: boolean }

for (const engine of engines) {
  describe(`another person with the id of a removed user, on ${engine.name}`, () => {
    test('sees nothing of the former user of the configuration, and is not taken for this user', async (t) => {
      const stage = await openStage(t, { engine, config: { users: [dora, ben] } })
      await decide(stage, 'approved', 'Ring 900')
      await decide(stage, 'denied', 'Coffee 4.20')
      assert.deepEqual(await whatIsKnown(stage, dora), {
        history: ['Coffee 4.20', 'Ring 900'],
        requests: ['Coffee 4.20', 'Ring 900'],
        exported: ['Coffee 4.20', 'Ring 900'],
        hasApproved: true,
      })
      await comeBackAs(stage, another)
      assert.deepEqual(await whatIsKnown(stage, another), nothing)
      await decide(stage, 'approved', 'Tea 2.90')
      const own = { history: ['Tea 2.90'], requests: ['Tea 2.90'], exported: ['Tea 2.90'], hasApproved: true }
      assert.deepEqual(await whatIsKnown(stage, another), own)
      await stage.restart({ users: [{ ...another, disabled: true }, ben] })
      await stage.restart({ users: [another, ben] })
      assert.deepEqual(await whatIsKnown(stage, another), own, 'a lock changes nothing of this')
      await comeBackAs(stage, { ...another, same_person: true })
      assert.deepEqual(await whatIsKnown(stage, another), own, 'the person returns, and the first one is still another')
    })

    test('sees nothing of a user who was removed by command', async (t) => {
      const stage = await openStage(t, { engine })
      await byCommand(stage, ({ addDora }) => addDora())
      await decide(stage, 'approved', 'Ring 900')
      await byCommand(stage, async ({ endUser, database }) => {
        assert.equal(await endUser(dora.id, 'removed', { mustBe: 'added', by: 'command' }), true)
        const kept = await exportUser(dora.id, undefined, { database })
        const rows = kept!.backchannel_auth_consent_history as { outcome: string }[]
        assert.deepEqual(
          rows.map(({ outcome }) => outcome).toSorted(),
          ['approved', 'denied'],
          'until then it can be exported',
        )
      })
      stage.clock.advance(60_000)
      await stage.restart({ users: [another, ben] })
      assert.deepEqual(await whatIsKnown(stage, another), nothing)
    })

    test('is another one unless the configuration or the command says that the same person returns', async (t) => {
      const stage = await openStage(t, { engine, config: { users: [dora, ben] } })
      await decide(stage, 'approved', 'Ring 900')
      const before = await whatIsKnown(stage, dora)
      await comeBackAs(stage, returning)
      assert.deepEqual(await whatIsKnown(stage, returning), before)
      await stage.restart({ users: [ben] })
      stage.clock.advance(60_000)
      assert.equal(await byCommand(stage, ({ addDora }) => addDora({ isSamePerson: true })), true)
      assert.deepEqual(await whatIsKnown(stage, dora), before)
    })
  })
}

const nothing = { history: [], requests: [], exported: [], hasApproved: false }

/** The configuration drops the user, and lists the id again later. */
async function comeBackAs(stage: Stage, user: User) {
  await stage.restart({ users: [ben] })
  stage.clock.advance(60_000)
  await stage.restart({ users: [user, ben] })
}

async function decide(stage: Stage, status: 'approved' | 'denied', message: string) {
  stage.clock.advance(1_000)
  assert.equal((await stage.ring('kiosk', { login_hint: dora.username, binding_message: message })).status, 200)
  const id = await stage.newestRequest(dora.username)
  assert.equal((await stage.decide(id, status, { login_hint: dora.username })).status, 200)
}

/** The binding messages that the user with Dora's id gets to see, and whether this user has approved the kiosk. */
async function whatIsKnown(stage: Stage, user: User) {
  const authorization = await bearerOf(stage, user)
  // An approval that was not collected when the user ended has a second row: it was denied.
  const messagesIn = (rows: unknown) => [
    ...new Set(((rows ?? []) as { binding_message: string }[]).map(({ binding_message }) => binding_message)),
  ]
  const { body } = await stage.get('/backchannel/activity', { authorization })
  const all = await stage.get('/backchannel/authinfo', { authorization })
  return byCommand(stage, async ({ database }) => {
    const exported = await exportUser(user.id, undefined, { database })
    return {
      history: messagesIn(body.activity),
      requests: messagesIn(all.body.requests),
      exported: messagesIn(exported!.backchannel_auth_consent_history).reverse(),
      hasApproved: await createDecisionStore(database).hasApproved(user.id, 'kiosk'),
    }
  })
}
