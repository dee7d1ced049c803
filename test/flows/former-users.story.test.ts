/**
 * A user is removed, and another person gets the id. This person sees no request or decision of the former user, and
 * can neither decide nor revoke anything by their ids.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createDecisionStore } from '../../src/ciba/decision/consent-history-store.ts'
import { exportUser } from '../../src/endings/export-user.ts'
import { byCommand, dora } from '../support/commands.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ben, credentials, openStage, type Stage } from '../support/stage.ts'
import { openVisitor } from '../support/visitor.ts'

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

    test('finds no request of the former user by its id or its link', async (t) => {
      const stage = await openStage(t, { engine, config: { users: [dora, ben] } })
      const theirs = [await decide(stage, 'approved', 'Ring 900'), await decide(stage, 'denied', 'Coffee 4.20')]
      for (const request of theirs) assert.deepEqual(await reached(stage, dora, request), settled)
      theirs.push(await ask(stage, 'Open 77'))
      await comeBackAs(stage, another)
      for (const request of theirs) assert.deepEqual(await reached(stage, another, request), unknown)
      const own = await decide(stage, 'approved', 'Tea 2.90')
      assert.deepEqual(await reached(stage, another, own), settled)
      await comeBackAs(stage, { ...another, same_person: true })
      assert.deepEqual(await reached(stage, another, own), settled, 'the same person returns')
      for (const request of theirs) assert.deepEqual(await reached(stage, another, request), unknown)
    })

    test('sees, decides and revokes own requests, even if the clock was set back after the removal', async (t) => {
      const stage = await openStage(t, { engine, config: { users: [dora, ben] } })
      const former = await decide(stage, 'denied', 'Coffee 4.20')
      await comeBackAs(stage, another)
      stage.clock.setBack(3_600_000)
      const open = await ask(stage, 'Tea 2.90')
      const { body } = await stage.get('/backchannel/authinfo', { authorization: await bearerOf(stage, another) })
      assert.deepEqual(
        (body.requests as { request_id: string }[]).map(({ request_id }) => request_id),
        [open.id],
      )
      assert.equal((await stage.decide(open.id, 'approved', { login_hint: dora.username })).status, 200)
      assert.deepEqual(await reached(stage, another, open), settled)
      assert.deepEqual(await reached(stage, another, former), unknown)
      const own = { history: ['Tea 2.90'], requests: ['Tea 2.90'], exported: ['Tea 2.90'], hasApproved: true }
      assert.deepEqual(await whatIsKnown(stage, another), own)
    })

    test('does not see a decision on a request of the former user that is stored later', async (t) => {
      const stage = await openStage(t, { engine, config: { users: [dora, ben] } })
      const { id } = await decide(stage, 'approved', 'Ring 900')
      await comeBackAs(stage, another)
      const late = stage.clock.now() + 1_000
      await byCommand(stage, ({ database }) =>
        database.step({
          sql: `insert into backchannel_auth_consent_history (id, request_id, client_id, user_id, outcome, decided_by,
                  scope, binding_message, decided_at)
                select 'late', id, client_id, user_id, 'approved', 'clock', scope, binding_message, cast($2 as bigint)
                from backchannel_auth_requests where id = $1`,
          values: [id, late],
        }),
      )
      assert.deepEqual(await whatIsKnown(stage, another), nothing)
    })

    test('sees nothing of a former user whose rows an earlier version did not mark', async (t) => {
      const stage = await openStage(t, { engine, config: { users: [dora, ben] } })
      const former = await decide(stage, 'approved', 'Ring 900')
      await byCommand(stage, ({ database }) =>
        database.step({
          sql: 'insert into user_generations (user_id, generation, is_closed, changed_at, former_until) values ($1, 1, 0, 0, $2)',
          values: [dora.id, stage.clock.now()],
        }),
      )
      assert.deepEqual(await whatIsKnown(stage, dora), nothing)
      assert.deepEqual(await reached(stage, dora, former), unknown)
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

/** Removes the user from the configuration, and later lists the id again. */
async function comeBackAs(stage: Stage, user: User) {
  await stage.restart({ users: [ben] })
  stage.clock.advance(60_000)
  await stage.restart({ users: [user, ben] })
}

interface Ids {
  id: string
  authReqId: string
}

async function ask(stage: Stage, message: string): Promise<Ids> {
  stage.clock.advance(1_000)
  const { status, body } = await stage.ring('kiosk', { login_hint: dora.username, binding_message: message })
  assert.equal(status, 200)
  return { id: await stage.newestRequest(dora.username), authReqId: String(body.auth_req_id) }
}

async function decide(stage: Stage, status: 'approved' | 'denied', message: string): Promise<Ids> {
  const asked = await ask(stage, message)
  assert.equal((await stage.decide(asked.id, status, { login_hint: dora.username })).status, 200)
  return asked
}

/** What a user gets in each way to reach a settled request of the user. `unknown` is what all other users get. */
const settled = {
  byId: 1,
  byAuthReqId: 1,
  byService: 1,
  page: 200,
  decided: 409,
  byApplication: 'already decided',
  revoked: 200,
}
const unknown = {
  byId: 0,
  byAuthReqId: 0,
  byService: 0,
  page: 404,
  decided: 404,
  byApplication: 'unknown',
  revoked: 404,
}

/**
 * Resolves to what the user with Dora's id gets in each way to reach a request: the device API, the page, and the
 * application.
 */
async function reached(stage: Stage, user: User, { id, authReqId }: Ids): Promise<typeof settled> {
  const authorization = await bearerOf(stage, user)
  const visitor = openVisitor(stage.url)
  await visitor.signIn(user)
  const found = async (form: Record<string, string>, as: string) =>
    ((await stage.post('/backchannel/authinfo', form, as)).body.requests as unknown[]).length
  const ofDora = { login_hint: dora.username }
  return {
    byId: await found({ request_id: id }, authorization),
    byAuthReqId: await found({ auth_req_id: authReqId }, authorization),
    byService: await found({ ...ofDora, request_id: id }, credentials.phoneService),
    page: (await visitor.get(`/approve/${id}`)).status,
    decided: (await stage.decide(id, 'denied', ofDora)).status,
    byApplication: (await stage.doorbell.requests.deny(id, user.id)).kind,
    revoked: (await stage.post('/backchannel/revoke', { request_id: id }, authorization)).status,
  }
}

/** The binding messages that the user with Dora's id gets to see, and whether this user has approved the kiosk. */
async function whatIsKnown(stage: Stage, user: User) {
  const authorization = await bearerOf(stage, user)
  // If an approval was not collected before the user ended, it has a second row, which says that it was denied.
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
