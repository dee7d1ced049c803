import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { openTerminal } from './terminal.ts'

const commands = [
  '',
  'serve',
  'init',
  'migrate',
  'client',
  'client add',
  'client list',
  'client show',
  'client remove',
  'client invite',
  'user',
  'user add',
  'user list',
  'user lock',
  'user unlock',
  'user remove',
  'user password',
  'user sign-out',
  'user export',
  'user erase',
  'request',
  'device',
  'requests',
  'outbox',
  'outbox list',
  'outbox show',
  'outbox retry',
  'keys',
  'keys list',
  'keys rotate',
  'doctor',
]

test('every command has help with an example', async (t) => {
  const terminal = await openTerminal(t)
  const helps = commands.map((command) => terminal.run([...command.split(' ').filter(Boolean), '--help']))
  for (const [index, command] of commands.entries()) {
    const { code, stdout, stderr } = await helps[index]!
    assert.equal(code, 0, command)
    assert.equal(stderr, '', command)
    assert.match(stdout, new RegExp(`^Usage: doorbell ${command}`), command)
    assert.match(stdout, new RegExp(`Examples?:\\n[\\s\\S]*npx doorbell ${command}`), command)
  }
})

test('--version is that of the package', async (t) => {
  const terminal = await openTerminal(t)
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'))
  const { code, stdout } = await terminal.run(['--version'])
  assert.deepEqual([code, stdout], [0, `${version}\n`])
})

test('a mistyped command or option gets a suggestion, and a non-zero exit code', async (t) => {
  const terminal = await openTerminal(t)
  const slip = await terminal.run(['doktor'])
  assert.equal(slip.code, 1)
  assert.match(slip.stderr, /unknown command 'doktor'\n\(Did you mean doctor\?\)/)
  assert.equal((await terminal.run([])).code, 1)
  assert.match((await terminal.run(['serve', '--prt', '1'])).stderr, /Did you mean --port\?/)
  assert.match((await terminal.run(['serve', '--port', 'x'])).stderr, /must be a port number/)
})
