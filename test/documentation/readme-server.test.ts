/** The server in the README: it starts as it is written there, and the users of the application can sign in. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { freePort } from '../support/ports.ts'
import { closeAfter } from '../support/teardown.ts'
import { openVisitor } from '../support/visitor.ts'
import { examplesIn } from './markdown.ts'

const front = new URL('../../src/index.ts', import.meta.url).href

/** The application's own users, of whom the example speaks. */
const myUsers = `
const ana = { id: 'u-1', email: 'ana@example.com', name: 'Ana' }
const myUsers = {
  byId: async (id) => (id === ana.id ? ana : null),
  byEmail: async (email) => (email === ana.email ? ana : null),
  checkPassword: async (id, password) => id === ana.id && password === 'heron-4711',
}
`

test('the users of the application sign in at the server of the README', async (t) => {
  const example = examplesIn('README.md').find(({ code }) => code.includes('createServer'))
  assert.ok(example)
  const port = await freePort()
  const url = `http://localhost:${port}`
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-readme-'))
  closeAfter(t, () => rm(folder, { recursive: true, force: true }))
  const code = replaced(example.code, [
    ["'doorbell-ciba'", `'${front}'`],
    ["issuer: 'https://id.example.com'", `development: true, issuer: '${url}', port: ${port}`],
    ['listen(4000,', `listen(${port},`],
  ])
  await writeFile(join(folder, 'server.mts'), myUsers + code)
  const env = { ...process.env, DOORBELL_SECRET: newSecret() }
  const server = spawn(process.execPath, ['server.mts'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise((resolve) => server.once('close', resolve))
  closeAfter(t, async () => {
    server.kill('SIGKILL')
    await ended
  })
  let said = ''
  await new Promise<void>((resolve, reject) => {
    for (const stream of [server.stdout, server.stderr]) {
      stream.on('data', (chunk) => {
        said += chunk
        if (said.includes('listening')) resolve()
      })
    }
    server.once('close', () => reject(new Error(`it ended: ${said}`)))
  })
  const wrong = await openVisitor(url).signIn({ username: 'ana@example.com', password: 'another' })
  assert.match(wrong.text, /name="password"/)
  const page = await openVisitor(url).signIn({ username: 'ana@example.com', password: 'heron-4711' })
  assert.equal(page.status, 200)
  assert.match(page.text, /action="\/session\/end"/)
  assert.match(said, /"event":"sign_in.succeeded"/)
  assert.doesNotMatch(said, /no_password_check/)
})

/** Throws if a text that is to be replaced is not in the example: then the test would run something else. */
function replaced(code: string, changes: [string, string][]): string {
  return changes.reduce((text, [from, to]) => {
    assert.ok(text.includes(from), `the example does not contain ${from}`)
    return text.replace(from, to)
  }, code)
}
