/**
 * Signs people in to Doorbell at a real Keycloak. `run.sh` says how Keycloak gets here. Its argument is the folder.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { newSecret } from '../../src/platform/crypto.ts'
import { freePort } from '../../test/support/ports.ts'
import { checkSignIn, type OtherProvider, type Person } from '../sign-in-elsewhere.ts'

const REALM = 'shop'
const client_secret = newSecret()
const dora: Person = { email: 'dora@example.com', isVerified: true, password: newSecret(12) }
const finn: Person = { email: 'finn@example.com', isVerified: false, password: newSecret(12) }

const home = process.argv[2]
if (home === undefined) throw new Error('which folder is Keycloak in? checks/keycloak-login/run.sh knows')
const port = await freePort()
await checkSignIn(await startKeycloak(home, `http://localhost:${port}`), port)

/** The realm, as it is described in docs/guides/sign-in-elsewhere.md. */
function realmFor(doorbell: string) {
  const user = (name: string, { email, isVerified, password }: Person) => ({
    username: name.toLowerCase(),
    firstName: name,
    lastName: 'Example',
    email,
    emailVerified: isVerified,
    enabled: true,
    attributes: { locale: ['de'] },
    credentials: [{ type: 'password', value: password, temporary: false }],
  })
  return {
    realm: REALM,
    enabled: true,
    internationalizationEnabled: true,
    supportedLocales: ['en', 'de'],
    clients: [
      {
        clientId: 'doorbell',
        secret: client_secret,
        publicClient: false,
        standardFlowEnabled: true,
        directAccessGrantsEnabled: false,
        redirectUris: [`${doorbell}/session/callback`],
        attributes: { 'pkce.code.challenge.method': 'S256' },
      },
    ],
    users: [user('Dora', dora), user('Finn', finn)],
  }
}

async function startKeycloak(folder: string, doorbell: string): Promise<OtherProvider> {
  const [httpPort, managementPort] = [await freePort(), await freePort()]
  await mkdir(join(folder, 'data', 'import'), { recursive: true })
  await writeFile(join(folder, 'data', 'import', 'shop.json'), JSON.stringify(realmFor(doorbell)))
  const issuer = `http://localhost:${httpPort}/realms/${REALM}`
  const where = ['--http-host=localhost', `--http-port=${httpPort}`, `--http-management-port=${managementPort}`]
  // The script starts Java as another process. Both are in a process group of their own, which is ended as a whole.
  const child = spawn(join(folder, 'bin', 'kc.sh'), ['start-dev', '--db=dev-mem', '--import-realm', ...where], {
    stdio: ['ignore', process.env.KEYCLOAK_LOG === undefined ? 'ignore' : 'inherit', 'inherit'],
    detached: true,
  })
  const ended = once(child, 'exit')
  const isUp = () =>
    fetch(`${issuer}/.well-known/openid-configuration`).then(
      (answer) => answer.ok,
      () => false,
    )
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL')
    await ended
  }
  process.once(
    'exit',
    () => child.exitCode === null && child.signalCode === null && process.kill(-child.pid!, 'SIGKILL'),
  )
  while (!(await isUp())) {
    if (child.exitCode !== null) throw new Error(`Keycloak ended: ${child.exitCode}`)
    await pause(250)
  }
  return {
    name: 'Keycloak',
    login: { issuer, client_id: 'doorbell', client_secret },
    dora,
    finn,
    isSignInPage: async (page) => page.url().startsWith(issuer) && (await page.locator('#kc-login').count()) === 1,
    async signIn(page, { email, password }) {
      // Keycloak knows who has signed in before, and then asks for the password only.
      if (await page.locator('#username').isVisible()) await page.locator('#username').fill(email)
      await page.locator('#password').fill(password)
      await page.locator('#kc-login').click()
    },
    stop,
  }
}
