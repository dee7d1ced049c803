/**
 * `doorbell user` beside a server that an application embeds. The commands do not get the hooks of the application, so
 * its users are not in the configuration of the commands, and have no row in the table `users`.
 */
import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import type { UserHooks } from '../../src/index.ts'
import { type Engine, engines } from '../support/engines.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { openVisitor } from '../support/visitor.ts'
import { openTerminal } from './terminal.ts'

for (const engine of engines) {
  describe(`doorbell user, for users of an application, on ${engine.name}`, () => {
    test('sign-out ends the session of a user; for an id without data, it says that there is no such user', async (t) => {
      const { visitor, terminal } = await scene(t, engine)
      assert.equal((await visitor.get('/activity')).status, 200)
      assert.deepEqual(await terminal.json(['user', 'sign-out', ana.id]), { signed_out: ana.id })
      assert.notEqual((await visitor.get('/activity')).status, 200)
      const slip = await terminal.run(['user', 'sign-out', 'user-anna'])
      assert.deepEqual([slip.code, /^There is no user user-anna; /m.test(slip.stderr)], [1, true], slip.stderr)
    })

    test('erase refuses a user whom the application may have, until the operator confirms the removal', async (t) => {
      const { visitor, terminal } = await scene(t, engine)
      const refused = await terminal.run(['user', 'erase', ana.id])
      assert.equal(refused.code, 1)
      assert.match(refused.stderr, /your application may have this user\.\n.*--removed-from-application/s)
      assert.equal((await visitor.get('/activity')).status, 200, 'nothing is changed')

      const erase = ['user', 'erase', ana.id, '--removed-from-application']
      assert.deepEqual(await terminal.json(erase), { erased: ana.id })
      assert.notEqual((await visitor.get('/activity')).status, 200)
      await visitor.signIn(ana, '/activity')
      assert.notEqual((await visitor.get('/activity')).status, 200, 'the id is closed until it is deleted')
      for (const again of [erase, erase.slice(0, 3)]) {
        assert.deepEqual(await terminal.json(again), { erased: ana.id, nothing_left: true })
      }
    })

    test('erase needs no confirmation for a user who was removed by command', async (t) => {
      const { terminal } = await scene(t, engine)
      await terminal.json(['user', 'add', '--id', 'dora', '--username', 'dora'])
      await terminal.json(['user', 'remove', 'dora'])
      assert.deepEqual(await terminal.json(['user', 'erase', 'dora']), { erased: 'dora' })
    })

    test('without a file, a command uses the environment with the secret of the server, not the demo', async (t) => {
      const { terminal } = await scene(t, engine)
      await rm(join(terminal.cwd, 'doorbell.config.json'))
      for (const [environment, source] of [
        [{ DOORBELL_ISSUER: 'http://localhost:4000', DOORBELL_DEVELOPMENT: 'true' }, 'the environment'],
        [{ DOORBELL_ISSUER: 'https://id.example.com' }, 'the environment'],
        [{ DOORBELL_SECRET: '', DOORBELL_ISSUER: 'https://id.example.com' }, undefined],
        [{ DOORBELL_SECRET: '', DOORBELL_ISSUER: 'http://localhost:4000' }, 'the demo configuration'],
      ] as const) {
        const { stderr } = await terminal.run(['client', 'list'], { env: environment })
        if (source === undefined) assert.match(stderr, /secret .*DOORBELL_SECRET/)
        else assert.match(stderr, new RegExp(`^Using ${source}`, 'm'))
      }
    })

    test('the other commands do not deny that there is such a user', async (t) => {
      const { visitor, terminal } = await scene(t, engine)
      for (const name of ['password', 'lock', 'unlock', 'remove', 'code']) {
        const { code, stderr } = await terminal.run(['user', name, ana.id])
        assert.equal(code, 1)
        assert.match(stderr, /user-ana was not added by command, and is not in the configuration/, name)
      }
      assert.equal((await visitor.get('/activity')).status, 200)
    })
  })
}

/** A server with hooks, at which Ana has signed in, and a terminal whose configuration has no users. */
async function scene(t: TestContext, engine: Engine) {
  const people = new Map([ana, ben].map(({ password, ...person }) => [person.id, person]))
  const users: UserHooks = {
    find: async (id) => people.get(id) ?? null,
    findByHint: async ({ value }) => [...people.values()].find(({ username }) => username === value) ?? null,
    verifyPassword: async ({ id }, given) => given === [ana, ben].find((person) => person.id === id)?.password,
  }
  const stage = await openStage(t, { engine, config: { users } })
  const visitor = openVisitor(stage.url)
  await visitor.signIn(ana, '/activity')
  const DOORBELL_SECRET = Buffer.alloc(32, 7).toString('base64url')
  const terminal = await openTerminal(t, { DOORBELL_SECRET, DOORBELL_DATABASE: stage.database })
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), '{"issuer":"https://id.example.com"}')
  return { visitor, terminal }
}
