/** Changes by command are in the audit stream, too (CD-19). */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { AuditEvent } from '../../src/platform/audit.ts'
import { cleanAfterSuite, openTerminal } from './terminal.ts'

/** The hook is slow, as one that writes to another system. */
const configuration = `
import { appendFile } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
export default {
  issuer: 'https://id.example.com',
  registration: { mode: 'token' },
  async audit(event) {
    await setTimeout(50)
    await appendFile('events', JSON.stringify(event) + '\\n')
    if (event.event === 'user.locked') throw new Error('the trail is full')
  },
}`

describe('a change by command', () => {
  const suite = cleanAfterSuite()

  test('is passed to the audit hook before the command ends, and to standard error, without any secret', async () => {
    const terminal = await openTerminal(suite, { DOORBELL_SECRET: 's'.repeat(43) })
    await writeFile(join(terminal.cwd, 'doorbell.config.js'), configuration)
    await writeFile(join(terminal.cwd, 'package.json'), '{"type":"module"}')
    const told: string[] = []
    const secrets: string[] = []
    async function type(...words: string[]): Promise<void> {
      const { code, stdout, stderr } = await terminal.run([...words, '--json'])
      assert.equal(code, 0, `${words.join(' ')}: ${stderr}`)
      const { client_secret, password, code: userCode, initial_access_token } = JSON.parse(stdout)
      secrets.push(...[client_secret, password, userCode, initial_access_token].filter(Boolean))
      told.push(...stderr.split('\n').filter((line) => line.includes('"audit":true')))
    }
    await type('client', 'add', '--id', 'till', '--mode', 'poll')
    await type('client', 'invite')
    await type('client', 'remove', 'till')
    await type('user', 'add', '--id', 'dora', '--username', 'dora')
    await type('user', 'code', 'dora')
    await type('user', 'code', 'dora', '--remove')
    await type('user', 'lock', 'dora')
    await type('user', 'unlock', 'dora')
    await type('user', 'remove', 'dora')

    const lines = (await readFile(join(terminal.cwd, 'events'), 'utf8')).trim().split('\n')
    const heard = lines.map((line) => JSON.parse(line) as AuditEvent)
    const by = 'command'
    const user = 'dora'
    assert.partialDeepStrictEqual(heard, [
      { event: 'client.added', client: 'till', by },
      { event: 'client.invited', by },
      { event: 'client.removed', client: 'till', by },
      { event: 'user.added', user, by },
      { event: 'user_code.set', user, by },
      { event: 'user_code.removed', user, by },
      { event: 'user.locked', user, by },
      { event: 'user.unlocked', user, by },
      { event: 'user.removed', user, by },
    ])
    const logged = told.map((line) => JSON.parse(line) as AuditEvent)
    assert.partialDeepStrictEqual(logged, heard)
    assert.equal(secrets.length, 4)
    for (const secret of secrets) assert.ok(!JSON.stringify([heard, logged]).includes(secret))
  })

  test('in development, only the audit hook gets it, unless the environment asks for a log', async () => {
    const terminal = await openTerminal(suite)
    const heard = `import { appendFileSync } from 'node:fs'
      export default { development: true, audit: ({ event }) => appendFileSync('events', event + '\\n') }`
    await writeFile(join(terminal.cwd, 'doorbell.config.js'), heard)
    await writeFile(join(terminal.cwd, 'package.json'), '{"type":"module"}')
    const quiet = await terminal.run(['user', 'add', '--username', 'dora'])
    assert.deepEqual([quiet.code, quiet.stdout.includes('{'), quiet.stderr.includes('{')], [0, false, false])
    const asked = await terminal.run(['user', 'lock', 'dora'], { env: { DOORBELL_LOG_LEVEL: 'info' } })
    assert.equal(JSON.parse(asked.stderr.split('\n').find((line) => line.startsWith('{'))!).event, 'user.locked')
    assert.equal(await readFile(join(terminal.cwd, 'events'), 'utf8'), 'user.added\nuser.locked\n')
  })

  test('is not audited if it had no effect', async () => {
    const terminal = await openTerminal(suite, { DOORBELL_SECRET: 's'.repeat(43) })
    await writeFile(join(terminal.cwd, 'doorbell.config.json'), '{"issuer":"https://id.example.com"}')
    await terminal.run(['migrate'])
    for (const words of [
      ['client', 'remove', 'nobody'],
      ['client', 'add', '--id', 'x', '--mode', 'ping'],
      ['user', 'lock', 'nobody'],
    ]) {
      const { code, stderr } = await terminal.run(words)
      assert.notEqual(code, 0)
      assert.doesNotMatch(stderr, /"audit"/, words.join(' '))
    }
  })
})
