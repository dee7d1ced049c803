/** Signals to a separate server process. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
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

test('during the delay the server answers calls but is not ready; a different signal later ends it at once', async (t) => {
  const { server, url } = await serveWithDelay(t)
  assert.equal((await fetch(`${url}/health/ready`)).status, 200)
  server.process.kill('SIGTERM')
  await server.says(/server\.stopping/)
  assert.equal((await fetch(`${url}/health/ready`)).status, 503)
  const metadata = await fetch(`${url}/.well-known/openid-configuration`)
  assert.deepEqual([metadata.status, metadata.headers.get('connection')], [200, 'close'])
  // The second signal counts once the first second has passed. The delay of five minutes has not ended by then.
  const repeated = setInterval(() => server.process.kill('SIGHUP'), 100)
  try {
    assert.equal((await server.ended).code, 130)
  } finally {
    clearInterval(repeated)
  }
})

for (const [first, second] of [
  ['SIGTERM', 'SIGHUP'],
  ['SIGHUP', 'SIGTERM'],
  ['SIGINT', 'SIGTERM'],
] as const) {
  test(`${second} immediately after ${first} belongs to the same decision: calls are still served`, async (t) => {
    const { server, url } = await serveWithDelay(t)
    server.process.kill(first)
    server.process.kill(second)
    await server.says(/server\.stopping/)
    for (let number = 0; number < 5; number++) {
      assert.equal((await fetch(`${url}/.well-known/openid-configuration`)).status, 200)
    }
    // Whichever signal came first, this is the same signal a second time.
    server.process.kill(first)
    server.process.kill(second)
    assert.equal((await server.ended).code, 130, 'the same signal again is a second decision')
  })
}

test('SIGTERM sent twice ends the server at once', async (t) => {
  const { server } = await serveWithDelay(t)
  server.process.kill('SIGTERM')
  await server.says(/server\.stopping/)
  server.process.kill('SIGTERM')
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

/** A server that continues to serve for five minutes after a signal. */
async function serveWithDelay(t: TestContext) {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const configuration = { port, development: true, shutdown: { delay: 300 } }
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(configuration))
  return { server: await terminal.serve([]), url: `http://localhost:${port}` }
}
