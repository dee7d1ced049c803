/** Weak secrets, passwords and codes that are given to a command: refused in production, named in development. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { type Engine, engines } from '../support/engines.ts'
import { closeAfter } from '../support/teardown.ts'
import { openTerminal, type Terminal } from './terminal.ts'

const production = { issuer: 'https://id.example.com' }
const development = { development: true, issuer: 'http://localhost:4000' }

for (const engine of engines) {
  describe(`weak values that are given to a command, on ${engine.name}`, () => {
    test('in production they are refused, with advice, and nothing is stored', async (t) => {
      const terminal = await openOn(t, engine, production)
      const { refuses, adds } = clientsOf(terminal)
      await refuses('q', 'is short enough to be guessed')
      await refuses('zyzyzyzyzyzyzyzyzyzyzyzyzyzy', 'has too few different characters')
      await refuses('demo-till-secret-not-for-production', 'is the secret of demo-till, which is public')
      assert.deepEqual((await terminal.json(['client', 'list'])).clients, [])
      await adds(newSecret())

      await refusesPassword(terminal, ['add', '--username', 'eve'], 'w', 'has fewer than 8 characters')
      await refusesPassword(terminal, ['add', '--username', 'evangeline'], 'Evangeline', 'is the name of the user')
      await refusesPassword(
        terminal,
        ['add', '--username', 'eve'],
        'alice',
        'is a password of the demo, which is public',
      )
      await refusesPassword(terminal, ['add', '--username', 'emil'], '12345678', easy)
      await refusesPassword(terminal, ['add', '--username', 'emil'], 'password', 'is one of the most common passwords')
      assert.deepEqual((await terminal.json(['user', 'list'])).users, [])
    })

    test('in production a weak password or code leaves the former one in force', async (t) => {
      const terminal = await openOn(t, engine, production)
      await terminal.json(['user', 'add', '--id', 'e-1', '--username', 'evangeline'])
      const before = await exportOf(terminal, 'e-1')

      await refusesPassword(terminal, ['password', 'evangeline'], 'w', 'has fewer than 8 characters')
      await refusesPassword(terminal, ['password', 'e-1'], 'EVANGELINE', 'is the name of the user')
      for (const password of ['12345678', 'qwertyuiop', 'abcabcabc']) {
        await refusesPassword(terminal, ['password', 'e-1'], password, easy)
      }
      for (const password of ['password', 'Passw0rd!']) {
        await refusesPassword(terminal, ['password', 'e-1'], password, 'is one of the most common passwords')
      }
      for (const code of ['1234', '987654', '0000', 'aaaaaaaaaa']) {
        await refusesCode(terminal, code, 'repeats one character or counts up or down')
      }
      await refusesCode(terminal, 'Evangeline', 'is the name of the user')
      assert.deepEqual(await exportOf(terminal, 'e-1'), before)

      assert.deepEqual(await terminal.json(['user', 'code', 'e-1', '--code-stdin'], { input: '4711' }), codeIsSet)
      assert.deepEqual(await terminal.json(['user', 'password', 'e-1', '--password-stdin'], { input: 'heron-4711' }), {
        id: 'e-1',
      })
    })

    test('in development they are accepted, and one line names each', async (t) => {
      const terminal = await openOn(t, engine, development)
      await writeFile(join(terminal.cwd, 'c.json'), JSON.stringify({ client_secret: 'q' }))
      const client = await terminal.run(['client', 'add', '--id', 'till', '--mode', 'poll', '--file', 'c.json'])
      assert.deepEqual(
        [client.code, notesIn(client.stderr)],
        [0, ['The client_secret of till is short enough to be guessed; in production it would be refused.']],
      )
      const words = ['user', 'add', '--id', 'e-1', '--username', 'eve', '--password-stdin']
      const user = await terminal.run(words, { input: 'w' })
      assert.deepEqual(
        [user.code, notesIn(user.stderr)],
        [0, ['The password of eve has fewer than 8 characters; in production it would be refused.']],
      )
      const password = await terminal.run(['user', 'password', 'eve', '--password-stdin'], { input: 'eve' })
      assert.deepEqual(
        [password.code, notesIn(password.stderr)],
        [0, ['The password of eve is the name of the user; in production it would be refused.']],
      )
      const code = await terminal.run(['user', 'code', 'eve', '--code-stdin'], { input: '0000' })
      assert.deepEqual(
        [code.code, notesIn(code.stderr)],
        [0, ['The code of eve repeats one character or counts up or down; in production it would be refused.']],
      )
    })
  })
}

const easy = 'repeats itself, or follows the order of numbers, letters or keys'
const codeIsSet = { id: 'e-1', code_set: true }

/** A terminal whose database is on the engine, with all tables. */
async function openOn(t: TestContext, engine: Engine, configuration: object): Promise<Terminal> {
  const { url, drop } = await engine.fresh()
  closeAfter(t, drop)
  const terminal = await openTerminal(t, { DOORBELL_SECRET: newSecret(), DOORBELL_DATABASE: url })
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(configuration))
  await terminal.run(['migrate'])
  return terminal
}

function clientsOf(terminal: Terminal) {
  async function add(secret: string) {
    await writeFile(join(terminal.cwd, 'c.json'), JSON.stringify({ client_secret: secret }))
    return terminal.run(['client', 'add', '--id', 'till', '--mode', 'poll', '--file', 'c.json'])
  }
  return {
    async refuses(secret: string, problem: string) {
      const advice = 'Leave client_secret out of the file: then the command makes a random one.'
      const { code, stderr } = await add(secret)
      assert.deepEqual([code, notesIn(stderr)], [1, [`The client_secret of till ${problem}. ${advice}`]])
    },
    async adds(secret: string) {
      const { code, stderr } = await add(secret)
      assert.deepEqual([code, notesIn(stderr)], [0, []])
    },
  }
}

async function refusesPassword(terminal: Terminal, words: string[], password: string, problem: string) {
  const advice = 'Leave out --password-stdin: then the command makes a random one.'
  const { code, stderr } = await terminal.run(['user', ...words, '--password-stdin'], { input: `${password}\n` })
  const who = words.at(-1) === 'e-1' ? 'evangeline' : words.at(-1)
  assert.deepEqual([code, notesIn(stderr)], [1, [`The password of ${who} ${problem}. ${advice}`]])
}

async function refusesCode(terminal: Terminal, given: string, problem: string) {
  const advice = 'Leave out --code-stdin: then the command makes a random one.'
  const { code, stderr } = await terminal.run(['user', 'code', 'e-1', '--code-stdin'], { input: given })
  assert.deepEqual([code, notesIn(stderr)], [1, [`The code of evangeline ${problem}. ${advice}`]])
}

/** Everything that is stored about the user, in which a new password or code shows as a new generation or time. */
const exportOf = async (terminal: Terminal, id: string) => (await terminal.run(['user', 'export', id])).stdout

/** The lines of standard error, without the one that names the configuration, and without log lines. */
const notesIn = (stderr: string) => stderr.split('\n').filter((line) => line !== '' && !/^(Using |\{)/.test(line))
