/** What commands write on a terminal, and what programs get. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { freePort } from '../support/ports.ts'
import { openTerminal, type Running, type Terminal } from './terminal.ts'

async function stop(server: Running): Promise<{ stdout: string; stderr: string }> {
  server.process.kill('SIGTERM')
  const { stdout, stderr } = await server.ended
  return { stdout: stripVTControlCharacters(stdout), stderr: stripVTControlCharacters(stderr) }
}

/** Leaves the clients and users of the demo in the database of the files that `init` has written. */
async function tryDemo(terminal: Terminal): Promise<void> {
  await terminal.run(['init'])
  await stop(await terminal.serve(['--demo', '--port', String(await freePort())]))
}

const linesOf = (text: string) => text.split('\n').filter((line) => line.trim() !== '')

describe('the log of a server', () => {
  test('on a terminal, in development: text, and one line for what the demo has left', async (t) => {
    const terminal = await openTerminal(t)
    await tryDemo(terminal)
    const port = await freePort()
    const server = terminal.start(['serve', '--port', String(port)], { columns: 100 })
    await server.says(/Ctrl-C stops it/)
    await fetch(`http://localhost:${port}/nowhere`)
    const { stdout, stderr } = await stop(server)
    assert.match(stdout, /Doorbell listens at/)
    const [first, ...more] = linesOf(stderr)
    assert.match(
      first!,
      /^\d\d:\d\d:\d\d {2}info {3}changes by the configuration: client\.removed demo-\w+(, demo-\w+){4}; user\.removed \w+, \w+, \w+$/,
    )
    assert.match(more[0]!, /^\d\d:\d\d:\d\d {2}info {3}answered .*status=404/)
    for (const line of more) assert.match(line, /^\d\d:\d\d:\d\d {2}\w+ {1,3}\S/)
    assert.doesNotMatch(stderr, /warn|removed.*removed.*removed|server\.listening/)
  })

  test('if a program reads it: JSON, and what the demo has left is no warning', async (t) => {
    const terminal = await openTerminal(t)
    await tryDemo(terminal)
    const { stderr } = await stop(await terminal.serve(['--port', String(await freePort())]))
    const lines = linesOf(stderr).map((line) => JSON.parse(line) as { level: number; event: string })
    const removed = lines.filter(({ event }) => event.endsWith('.removed'))
    assert.deepEqual([removed.length, ...new Set(removed.map(({ level }) => level))], [8, 30])
  })

  test('in production it is JSON, on a terminal too', async (t) => {
    const env = { DOORBELL_ISSUER: 'https://id.example.com', DOORBELL_SECRET: 's3cr-'.repeat(9).slice(0, 43) }
    const terminal = await openTerminal(t, env)
    const server = terminal.start(['serve', '--port', String(await freePort())], { columns: 100 })
    await server.says(/Ctrl-C stops it/)
    const { stderr } = await stop(server)
    assert.match(stderr, /"server\.listening"/)
    for (const line of linesOf(stderr)) assert.equal(typeof JSON.parse(line).level, 'number', line)
  })
})

describe('sentences', () => {
  const sentence = /For production: remove the line "development".*keep it out of the repository\.$/m

  test('are wrapped to the width of the terminal', async (t) => {
    const terminal = await openTerminal(t)
    const { stdout } = await terminal.run(['init'], { columns: 50 })
    assert.doesNotMatch(stdout, sentence)
    const said = linesOf(stdout.slice(stdout.indexOf('For production')))
    assert.ok(said.length >= 5, stdout)
    for (const line of said) assert.ok(line.length <= 50, line)
    assert.match(said.join(' '), sentence)
  })

  test('are not wrapped if the output is not a terminal', async (t) => {
    const terminal = await openTerminal(t)
    assert.match((await terminal.run(['init'])).stdout, sentence)
  })
})

test('a command to copy contains all that the former command named, but not the secret', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const issuer = `http://localhost:${port}`
  await terminal.serve(['--demo', '--port', String(port)])
  terminal.start(['request', '--client', 'demo-till', '--login-hint', 'alice', '--issuer', issuer])
  const secret = 'demo-device-secret-not-for-production'
  const named = ['--client', 'demo-device', '--issuer', issuer]
  const { stdout } = await terminal.run(['device', '--user', 'alice', '--wait', '--client-secret', secret, ...named])
  const [, typed = ''] = /^ +npx doorbell (device .*)$/m.exec(stdout) ?? []
  assert.doesNotMatch(typed, new RegExp(secret))
  const approved = await terminal.run(typed.split(' '), { input: secret })
  assert.equal(approved.code, 0, `${typed}: ${approved.stderr}`)
})
