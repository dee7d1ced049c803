/**
 * Signs people in to Doorbell at an application with better-auth. `run.sh` installs better-auth in a folder. Its argument is the folder.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { newSecret } from '../../src/platform/crypto.ts'
import { freePort } from '../../test/support/ports.ts'
import { checkSignIn, type OtherProvider, type Person } from '../sign-in-elsewhere.ts'

const dora: Person = { email: 'dora@example.com', isVerified: true, password: newSecret(12) }
const finn: Person = { email: 'finn@example.com', isVerified: false, password: newSecret(12) }

const folder = process.argv[2]
if (folder === undefined) throw new Error('which folder is better-auth in? checks/better-auth-login/run.sh knows')
const port = await freePort()
await checkSignIn(await startBetterAuth(folder, `http://localhost:${port}`), port)

async function startBetterAuth(folder: string, doorbell: string): Promise<OtherProvider> {
  const child = spawn(process.execPath, [join(folder, 'provider.mjs')], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      PORT: String(await freePort()),
      REDIRECT_URI: `${doorbell}/session/callback`,
      PEOPLE: JSON.stringify([
        { name: 'Dora', ...dora },
        { name: 'Finn', ...finn },
      ]),
      BETTER_AUTH_SECRET: newSecret(),
    },
  })
  process.once('exit', () => child.kill('SIGKILL'))
  const ended = once(child, 'exit')
  // Other lines are the log of better-auth.
  const client = await new Promise<OtherProvider['login']>((resolve, reject) => {
    createInterface(child.stdout!).on('line', (line) => line.startsWith('{') && resolve(JSON.parse(line)))
    ended.then(() => reject(new Error('better-auth ended')), reject)
  })
  const { issuer, client_id, client_secret } = client
  return {
    name: 'better-auth',
    login: { issuer, client_id, client_secret },
    dora,
    finn,
    isSignInPage: async (page) => new URL(page.url()).pathname === '/sign-in',
    async signIn(page, { email, password }) {
      await page.locator('input[name=email]').fill(email)
      await page.locator('input[name=password]').fill(password)
      await page.locator('button').click()
    },
    async stop() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
