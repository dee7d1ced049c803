/** Signals to a separate server process. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { freePort } from '../support/ports.ts'
import { openTerminal } from './terminal.ts'

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test(`${signal} stops the server in order; in development at once`, async (t) => {
    const terminal = await openTerminal(t)
    const server = await terminal.serve(['--demo', '--port', String(await freePort())])
    server.process.kill(signal)
    const { code, stderr } = await server.ended
    assert.equal(code, 0, stderr)
    assert.match(stderr, new RegExp(`"event":"server\\.stopping","signal":"${signal}","delay":0`))
    assert.match(stderr, /"event":"server\.stopped"/)
  })
}

test('during the delay it still serves, and is not ready; a second signal ends it at once', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const configuration = { port, development: true, shutdown: { delay: 300 } }
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(configuration))
  const server = await terminal.serve([])
  const url = `http://localhost:${port}`
  assert.equal((await fetch(`${url}/health/ready`)).status, 200)
  server.process.kill('SIGTERM')
  await server.says(/server\.stopping/)
  assert.equal((await fetch(`${url}/health/ready`)).status, 503)
  const metadata = await fetch(`${url}/.well-known/openid-configuration`)
  assert.deepEqual([metadata.status, metadata.headers.get('connection')], [200, 'close'])
  server.process.kill('SIGHUP')
  assert.equal((await server.ended).code, 130)
})

test('the server ends by itself after the delay', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const server = await terminal.serve(['--demo', '--port', String(port)], { env: { DOORBELL_SHUTDOWN_DELAY: '1' } })
  server.process.kill('SIGTERM')
  await server.says(/server\.stopping/)
  assert.equal((await fetch(`http://localhost:${port}/health/ready`)).status, 503)
  assert.equal((await server.ended).code, 0)
})
