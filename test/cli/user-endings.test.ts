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
      assert.match(
        (await terminal.run(['user', 'export', 'dora'])).stderr,
        /^dora was erased: there is no data about this user any more\.$/m,
      )
      assert.match(
        (await terminal.run(['user', 'add', '--id', 'dora', '--username', 'y'])).stderr,
        /belonged to another user before/,
      )
    })

    test('erase may be repeated with the id: with no data left it succeeds', async (t) => {
      const { terminal } = await openOn(t, engine)
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), '{"issuer":"https://id.example.com"}')
      const { id } = await terminal.json(['user', 'add', '--username', 'dora'])
      await terminal.json(['user', 'add', '--username', 'emil'])
      assert.match((await terminal.run(['user', 'erase', 'dora'])).stdout, /^Erased dora\./)
      const { code, stdout, stderr } = await terminal.run(['user', 'erase', String(id)])
      assert.deepEqual([code, stdout], [0, `${id} was erased before: nothing is left to erase.\n`], stderr)
      assert.deepEqual(await terminal.json(['user', 'erase', String(id)]), { erased: id, nothing_left: true })
      const slip = await terminal.run(['user', 'erase', 'emill'])
      assert.deepEqual([slip.code, /did you mean emil\?$/m.test(slip.stderr)], [1, true], slip.stderr)
      const { users } = (await terminal.json(['user', 'list'])) as { users: { username: string }[] }
      assert.deepEqual(
        users.map(({ username }) => username),
        ['emil'],
      )
    })

    test('a removed user has no name any more: erase and export refuse it, and say where the id is', async (t) => {
      const { terminal } = await openOn(t, engine)
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), '{"issuer":"https://id.example.com"}')
      const { id } = await terminal.json(['user', 'add', '--username', 'gone'])
      const removed = await terminal.run(['user', 'remove', 'gone'])
      assert.match(removed.stdout, new RegExp(`^Removed gone \\(${id}\\)\\. .*open requests`, 's'))
      assert.match(removed.stdout, new RegExp(`npx doorbell user erase ${id}$`, 'm'))

      for (const command of ['erase', 'export']) {
        const { code, stdout, stderr } = await terminal.run(['user', command, 'gone'])
        assert.deepEqual([code, stdout], [1, ''], stderr)
        assert.match(stderr, /There is no user gone, and no data under the id gone\./)
        assert.match(stderr, /"npx doorbell user list --removed" lists these ids/)
      }
      const listed = await terminal.json(['user', 'list', '--removed'])
      assert.partialDeepStrictEqual(listed, { removed: [{ id }] })
      assert.match((await terminal.run(['user', 'list', '--removed'])).stdout, new RegExp(`^${id} +\\d`, 'm'))

      assert.match((await terminal.run(['user', 'erase', String(id)])).stdout, /^Erased /)
      assert.deepEqual(await terminal.json(['user', 'list', '--removed']), { removed: [] })
    })

    test('advice for a user of the configuration is to change the entry, not to remove the user', async (t) => {
      const { terminal } = await openOn(t, engine)
      const configuration = { issuer: 'https://id.example.com', users: [{ id: 'ana', username: 'ana' }] }
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(configuration))
      const advice = {
        lock: 'ana comes from the configuration. Set "disabled: true" in the user\'s entry there, and restart the server.',
        unlock:
          'ana comes from the configuration. Remove "disabled" from the user\'s entry there, and restart the server.',
        password:
          'ana comes from the configuration. Change "password" in the user\'s entry there, and restart the server.',
        remove:
          "ana comes from the configuration. Remove the user's entry there, and restart the server. This deletes the passkeys\n" +
          'and the user code of the user permanently. To lock the user instead, set "disabled: true" in the entry.',
      }
      for (const [command, says] of Object.entries(advice)) {
        const { code, stderr } = await terminal.run(['user', command, 'ana'])
        assert.deepEqual([code, stderr.replace(/^Using .*\n/, '').trimEnd()], [1, says])
      }
    })

    test('lock says what has ended', async (t) => {
      const { terminal } = await openOn(t, engine)
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), '{"issuer":"https://id.example.com"}')
      await terminal.json(['user', 'add', '--id', 'dora', '--username', 'dora'])
      const says = 'Locked dora. All sessions and tokens have ended, and open requests are denied.\n'
      assert.equal((await terminal.run(['user', 'lock', 'dora'])).stdout, says)
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
