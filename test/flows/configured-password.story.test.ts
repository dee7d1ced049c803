/**
 * The password of a user is changed in the configuration. At the next start, the sessions and tokens of the user end.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { auditOf } from '../support/audit.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openVisitor } from '../support/visitor.ts'

for (const engine of engines) {
  test(`a changed password ends the sessions and tokens of this user only, on ${engine.name}`, async (t) => {
    const stage = await openStage(t, { engine })
    const [anas, bens] = [openVisitor(stage.url), openVisitor(stage.url)]
    await anas.signIn(ana)
    await bens.signIn(ben)
    const authorization = await bearerOf(stage)
    const isSignedIn = async (visitor: typeof anas) => (await visitor.get('/')).status === 200

    await stage.restart()
    assert.deepEqual([await isSignedIn(anas), await isSignedIn(bens)], [true, true], 'the same passwords')

    const changed = { ...ana, password: 'another long password 8731' }
    await stage.restart({ users: [changed, ben] })
    assert.deepEqual([await isSignedIn(anas), await isSignedIn(bens)], [false, true])
    anas.jar.delete('doorbell_app')
    assert.doesNotMatch((await anas.follow(await anas.get('/'))).text, /Signed in as/, 'nor without a password')
    assert.equal((await stage.get('/backchannel/authinfo', { authorization })).status, 401)
    assert.partialDeepStrictEqual(auditOf(stage, 'user.signed_out'), [{ user: ana.id, by: 'configuration' }])

    const again = openVisitor(stage.url)
    await again.signIn(changed)
    await stage.restart({ users: [changed, ben] })
    assert.equal(await isSignedIn(again), true, 'a later start with the same password ends nothing')
    const stored = JSON.stringify(await rowsOf(stage, 'select * from configured_users'))
    assert.ok(!stored.includes(changed.password))

    const { password: _, ...withoutPassword } = changed
    await stage.restart({ users: [withoutPassword, ben] })
    assert.equal(await isSignedIn(again), false, 'the password was removed')
  })

  test(`a changed password is told to the user, on every channel and once, on ${engine.name}`, async (t) => {
    const stage = await openStage(t, { engine })
    async function mails(): Promise<string[]> {
      await stage.doorbell.idle()
      const { body } = await stage.get('/dev/mailbox', { accept: 'application/json' })
      return (body.mails as { subject: string; to: string }[]).map(({ to, subject }) => `${to}: ${subject}`)
    }
    const changed = { ...ana, password: 'another long password 8731' }
    await stage.restart({ users: [changed, ben] })
    assert.deepEqual(await mails(), [`${ana.email}: A new password was set for your account`])
    await stage.restart({ users: [changed, ben] })
    assert.deepEqual(await mails(), [], 'the same password')
    const { password: _, ...withoutPassword } = changed
    await stage.restart({ users: [withoutPassword, ben] })
    assert.deepEqual(await mails(), [], 'there is no new password')
  })

  test(`a user whom an earlier version has stored is not signed out by the update, on ${engine.name}`, async (t) => {
    const stage = await openStage(t, { engine })
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    await rowsOf(stage, 'update configured_users set password_hash = null returning user_id')
    await stage.restart()
    assert.equal((await visitor.get('/')).status, 200)
    await stage.restart({ users: [{ ...ana, password: 'another long password 8731' }, ben] })
    assert.notEqual((await visitor.get('/')).status, 200)
  })
}

for (const count of [2, 5]) {
  test(`${count} nodes start at the same time: Ana is signed out once, and may sign in at the first of them`, async (t) => {
    const stage = await openStage(t, { engine: engines.find(({ name }) => name === 'postgres')! })
    const before = openVisitor(stage.url)
    await before.signIn(ana)
    const changed = { ...ana, password: 'another long password 8731' }
    const gate = createGate()
    t.after(gate.release)
    const opened: typeof openDatabase = async (...about) => {
      const database = await openDatabase(...about)
      const { step } = database
      database.step = async (first, options) => {
        if (first.sql.includes('from configured_users')) await gate.pass()
        return step(first, options)
      }
      return database
    }
    gate.hold()
    const options = { config: { users: [changed, ben] } }
    const others = Array.from({ length: count - 1 }, () => openNeighbour(t, stage, options, { openDatabase: opened }))
    // The other nodes have read that the password has changed.
    await gate.waiting(count - 1)
    await stage.restart({ users: [changed, ben] })
    assert.notEqual((await before.get('/')).status, 200)
    const again = openVisitor(stage.url)
    await again.signIn(changed)
    gate.release()
    await Promise.all(others)
    assert.equal((await again.get('/')).status, 200, 'the new session stays')
    assert.equal(auditOf(stage, 'user.signed_out').length, 1)
  })
}
