/** `doorbell user`: commands that end a user's access or data, and their output. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { createPasskeyStore } from '../../src/user/passkey/passkey-store.ts'
import { type Engine, engines } from '../support/engines.ts'
import { closeAfter } from '../support/teardown.ts'
import { openTerminal } from './terminal.ts'

for (const engine of engines) {
  describe(`doorbell user, on ${engine.name}`, () => {
    test('output names a user as the operator typed it, with the id', async (t) => {
      const { terminal, url } = await openOn(t, engine)
      const configuration = {
        issuer: 'https://id.example.com',
        users: [{ id: 'u-1', username: 'ana', password: 'of ana' }],
      }
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(configuration))
      const says = async (...words: string[]) => {
        const { stdout, stderr } = await terminal.run(['user', ...words])
        return (stdout || stderr.replace(/^Using .*\n/, '')).split('\n')[0]
      }
      assert.equal(await says('code', 'ana'), 'ana (u-1) has a code now.')
      assert.equal(await says('code', 'u-1'), 'u-1 has a code now.')
      assert.equal(await says('code', 'ana', '--remove'), 'ana (u-1) no longer has a code.')
      const none = await says('forget-passkeys', 'ana')
      assert.equal(none, 'ana (u-1) has no passkeys; "npx doorbell user list" lists the users.')
      await addPasskey(url, 'u-1')
      assert.equal(await says('forget-passkeys', 'ana'), 'Removed 1 passkey of ana (u-1).')
    })

    test('user: password, sign-out, export, remove, erase; no id is reused', async (t) => {
      const { terminal } = await openOn(t, engine)
      const configuration = {
        issuer: 'https://id.example.com',
        users: [{ id: 'ana', username: 'ana', password: 'of ana' }],
      }
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(configuration))
      const added = await terminal.json([
        'user',
        'add',
        '--id',
        'dora',
        '--username',
        'dee',
        '--email',
        'dora@example.com',
      ])
      assert.equal(added.id, 'dora')

      const changed = await terminal.json(['user', 'password', 'dee'])
      assert.equal(changed.id, 'dora', 'a username is enough')
      assert.match(String(changed.password), /^\S{16}$/)
      assert.notEqual(changed.password, added.password)
      const chosen = await terminal.run(['user', 'password', 'dora', '--password-stdin'], { input: 'heron-4711\n' })
      assert.equal(chosen.code, 0, chosen.stderr)
      assert.ok(!(chosen.stdout + chosen.stderr).includes('heron'))
      assert.match((await terminal.run(['user', 'password', 'ana'])).stderr, /^ana comes from the configuration/m)
      assert.deepEqual(await terminal.json(['user', 'sign-out', 'dora@example.com']), { signed_out: 'dora' })
      assert.match((await terminal.run(['user', 'sign-out', 'dorra'])).stderr, /did you mean dora\?/)

      const exported = await terminal.run(['user', 'export', 'dora'])
      const { users, user_generations } = JSON.parse(exported.stdout)
      assert.partialDeepStrictEqual(users, [{ id: 'dora', email: 'dora@example.com', has_password: true }])
      assert.partialDeepStrictEqual(user_generations, [{ generation: 3, is_closed: false }])
      assert.doesNotMatch(exported.stdout, /scrypt/)

      assert.deepEqual(await terminal.json(['user', 'remove', 'dora']), { removed: 'dora' })
      assert.match(
        (await terminal.run(['user', 'add', '--id', 'dora', '--username', 'x'])).stderr,
        /belonged to another user before/,
      )
      assert.equal(
        (await terminal.json(['user', 'add', '--id', 'dora', '--username', 'x', '--same-person'])).id,
        'dora',
      )
      assert.match((await terminal.run(['user', 'erase', 'ana'])).stderr, /Remove the user there first/)
      assert.deepEqual(await terminal.json(['user', 'erase', 'dora']), { erased: 'dora' })
      assert.match((await terminal.run(['user', 'export', 'dora'])).stderr, /There is no data about dora/)
      assert.match(
        (await terminal.run(['user', 'add', '--id', 'dora', '--username', 'y'])).stderr,
        /belonged to another user before/,
      )
    })

    test('erase may be repeated: with no data left it succeeds', async (t) => {
      const { terminal } = await openOn(t, engine)
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), '{"issuer":"https://id.example.com"}')
      const { id } = await terminal.json(['user', 'add', '--username', 'dora'])
      await terminal.json(['user', 'add', '--username', 'emil'])
      assert.match((await terminal.run(['user', 'erase', 'dora'])).stdout, /^Erased dora\./)
      for (const who of ['dora', String(id)]) {
        const { code, stdout, stderr } = await terminal.run(['user', 'erase', who])
        const says = `There is no data about ${who}: nothing to erase.\n`
        assert.deepEqual([code, stdout], [0, says], stderr)
        assert.deepEqual(await terminal.json(['user', 'erase', who]), { erased: who, nothing_left: true })
      }
      const slip = await terminal.run(['user', 'erase', 'emill'])
      assert.deepEqual([slip.code, /did you mean emil\?$/m.test(slip.stdout)], [0, true], slip.stdout)
      const { users } = (await terminal.json(['user', 'list'])) as { users: { username: string }[] }
      assert.deepEqual(
        users.map(({ username }) => username),
        ['emil'],
      )
    })
  })
}

/** A terminal whose database is on the engine, with all tables. */
async function openOn(t: TestContext, engine: Engine) {
  const { url, drop } = await engine.fresh()
  closeAfter(t, drop)
  const terminal = await openTerminal(t, { DOORBELL_SECRET: 's'.repeat(43), DOORBELL_DATABASE: url })
  await terminal.run(['migrate'])
  return { terminal, url }
}

async function addPasskey(url: string, userId: string): Promise<void> {
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
  const about = { id: 'x', userId, credentialId: 'x', publicKey: 'x', counter: 0, transports: [], name: undefined }
  const isAdded = await createPasskeyStore(database).add({ ...about, createdAt: 1, usedAt: undefined })
  await database.close()
  assert.ok(isAdded)
}
