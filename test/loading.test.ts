/** What a server loads, and when: memory and the time of a start are mostly that. */
import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { engines } from './support/engines.ts'
import type { Loaded } from './support/loading.ts'

const program = fileURLToPath(new URL('./support/loading.ts', import.meta.url))
const ours = Object.keys(JSON.parse(readFileSync('package.json', 'utf8')).dependencies)

/** Every server's. What is not here is loaded where it is needed, by the file that needs it. */
const always = [
  '@fastify/cookie',
  'eta',
  'fastify',
  'i18next',
  'ipaddr.js',
  'jose',
  'oidc-provider',
  'openid-client',
  'pino',
  'zod',
]

async function load(settings: Record<string, unknown>): Promise<Loaded> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, JSON.stringify(settings)])
  const { libraries, afterwards } = JSON.parse(stdout) as Loaded
  return { libraries: libraries.filter((name) => ours.includes(name)), afterwards }
}

for (const engine of engines) {
  describe(`on ${engine.name}`, () => {
    test('a server loads what every server needs; rings and polls load nothing more', async (t) => {
      const { url: database, drop } = await engine.fresh()
      t.after(drop)
      assert.deepEqual(await load({ database }), {
        libraries: engine.name === 'postgres' ? [...always, 'pg'].sort() : always,
        afterwards: [],
      })
    })
  })
}

test('no mail is sent yet, and nobody has a passkey: neither is loaded because it is possible', async () => {
  const { libraries } = await load({
    database: 'sqlite::memory:',
    email: { smtp: 'smtp://mail.example.com', from: 'id@example.com' },
  })
  assert.deepEqual(libraries, always)
})

test('who is called has not to wait until what calls them is loaded', async () => {
  const client = {
    client_id: 'kiosk',
    client_secret: 'a secret of the kiosk',
    backchannel_token_delivery_mode: 'ping',
    backchannel_client_notification_endpoint: 'https://kiosk.example.com/ping',
  }
  const { libraries } = await load({ database: 'sqlite::memory:', clients: [client] })
  assert.deepEqual(libraries, [...always, 'undici'].sort())
})

test('a command loads openid-client only when it speaks to a provider as a client', () => {
  const hook = `
    import { registerHooks } from 'node:module'
    const load = (url, context, next) => {
      if (url.includes('/node_modules/openid-client/')) process.stderr.write('it is loaded')
      return next(url, context)
    }
    registerHooks({ load })`
  const saidBy = (...command: string[]) =>
    spawnSync(
      process.execPath,
      ['--import', `data:text/javascript,${encodeURIComponent(hook)}`, 'bin/doorbell.js', ...command],
      { encoding: 'utf8' },
    ).stderr
  assert.doesNotMatch(saidBy('--help'), /it is loaded/)
  assert.match(saidBy('device', '--user', 'ana', '--list', '--issuer', 'http://localhost:9'), /it is loaded/)
})
