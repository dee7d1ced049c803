/** The server in the README: it starts as it is written there, and the users of the application can sign in. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { openBrowser } from '../support/browser.ts'
import { freePort } from '../support/ports.ts'
import { ana, openStage } from '../support/stage.ts'
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

const examples = examplesIn('README.md')
const server = examples.find(({ code }) => code.includes('createServer'))?.code ?? ''
const usersElsewhere = examples.find(({ code }) => code.startsWith('login:'))?.code ?? ''

test('the users of the application sign in at the server of the README', async (t) => {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const said = await start(t, server, port)
  const wrong = await openVisitor(url).signIn({ username: 'ana@example.com', password: 'another' })
  assert.match(wrong.text, /name="password"/)
  const page = await openVisitor(url).signIn({ username: 'ana@example.com', password: 'heron-4711' })
  assert.equal(page.status, 200)
  assert.match(page.text, /action="\/session\/end"/)
  assert.match(said(), /"event":"sign_in.succeeded"/)
  assert.doesNotMatch(said(), /no_password_check/)
})

for (const [address, isVerified, status] of [
  ['ana@example.com', true, 200],
  ['ana@example.com', false, 403],
  ['eve@example.com', true, 403],
] as const) {
  const how = isVerified ? 'verified' : 'unverified'
  test(`with \`login\` as in the README, who signs in elsewhere as ${address}, ${how}, gets ${status}`, async (t) => {
    const port = await freePort()
    const url = `http://localhost:${port}`
    const client_secret = newSecret()
    const person = { ...ana, email: address, claims: { email_verified: isVerified } }
    const clients = [{ client_id: 'doorbell', client_secret, redirect_uris: [`${url}/session/callback`] }]
    const bank = await openStage(t, { config: { clients, users: [person] as never } })
    const [, own = ''] = /( {2}users: \{\n.*?\n {2}\},)\n/s.exec(server) ?? []
    const code = replaced(server, [[own, usersElsewhere.replaceAll('https://login.example.com', bank.url)]])
    await start(t, code, port, { LOGIN_SECRET: client_secret })
    const [browser, bankBrowser] = [openBrowser(url), openBrowser(bank.url)]
    const signInPage = await bankBrowser.open((await browser.open(`${url}/`)).url)
    const consent = await bankBrowser.submit(signInPage, { name: ana.username, password: ana.password })
    const page = await browser.open((await bankBrowser.submit(consent)).url)
    assert.equal(page.status, status, page.text)
  })
}

/** Starts the example on this port. Resolves when it listens, to a function that returns what it has printed. */
async function start(t: TestContext, example: string, port: number, more: Record<string, string> = {}) {
  const url = `http://localhost:${port}`
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-readme-'))
  closeAfter(t, () => rm(folder, { recursive: true, force: true }))
  const code = replaced(example, [
    ["'doorbell-ciba'", `'${front}'`],
    ["issuer: 'https://id.example.com'", `development: true, issuer: '${url}', port: ${port}`],
    ['listen(4000,', `listen(${port},`],
  ])
  await writeFile(join(folder, 'server.mts'), myUsers + code)
  const env = { ...process.env, DOORBELL_SECRET: newSecret(), ...more }
  const child = spawn(process.execPath, ['server.mts'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise((resolve) => child.once('close', resolve))
  closeAfter(t, async () => {
    child.kill('SIGKILL')
    await ended
  })
  let said = ''
  await new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        said += chunk
        if (said.includes('listening')) resolve()
      })
    }
    child.once('close', () => reject(new Error(`it ended: ${said}`)))
  })
  return () => said
}

/** Throws if a text that is to be replaced is not in the example: then the test would run something else. */
function replaced(code: string, changes: [string, string][]): string {
  return changes.reduce((text, [from, to]) => {
    assert.ok(text.includes(from), `the example does not contain ${from}`)
    return text.replace(from, to)
  }, code)
}
