/** The password of a user is changed in the configuration: at the next start, the sessions and tokens of the user end. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { auditOf } from '../support/audit.ts'
import { engines } from '../support/engines.ts'
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
