/** A value that stays in memory after a call must not keep the whole body of the call in memory, on both engines. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { engines } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { startServer } from '../support/process.ts'
import { CIBA, castConfig, credentials } from '../support/stage.ts'

const many = 300
const padding = `&pad=${'x'.repeat(60_000)}`
/** Much less than the padding, and more than a pending request with all that is kept of it. */
const mostBytesEach = 20_000

for (const engine of engines) {
  describe(`polls with a long body, on ${engine.name}`, () => {
    test('are answered from memory without keeping their bodies', async (t) => {
      const { url: database, drop } = await engine.fresh({ mayHaveTables: true })
      const folder = await mkdtemp(join(tmpdir(), 'doorbell-padded-'))
      const port = await freePort()
      const configFile = join(folder, 'doorbell.config.json')
      const settings = {
        requests: { maxOpenPerUser: 2 * many },
        limits: { perUser: { perMinute: 0 }, perClientAndUser: { open: 0, perMinute: 0 } },
      }
      await writeFile(configFile, JSON.stringify(castConfig(port, database, { config: settings })))
      const server = await startServer(configFile, { canBeWeighed: true })
      t.after(async () => {
        await server.kill()
        await drop()
        await rm(folder, { recursive: true, force: true })
      })
      async function post(path: string, body: string): Promise<Record<string, unknown>> {
        const response = await fetch(`http://127.0.0.1:${port}${path}`, {
          method: 'POST',
          headers: { authorization: credentials.kiosk, 'content-type': 'application/x-www-form-urlencoded' },
          body,
        })
        return (await response.json()) as Record<string, unknown>
      }
      async function pollEach(padding: string): Promise<void> {
        for (let n = 0; n < many; n++) {
          const { auth_req_id: id } = await post('/backchannel/authorize', 'scope=openid&login_hint=ana')
          const polled = await post(
            '/oauth/token',
            `grant_type=${encodeURIComponent(CIBA)}&auth_req_id=${id}${padding}`,
          )
          assert.equal(polled.error, 'authorization_pending', JSON.stringify(polled))
        }
      }

      await pollEach('')
      const before = await server.weigh()
      await pollEach(padding)
      const after = await server.weigh()
      const each = (after.kept - before.kept) / many
      t.diagnostic(`${Math.round(each)} bytes are kept for each request`)
      assert.ok(each < mostBytesEach, `${each} bytes`)
    })
  })
}
