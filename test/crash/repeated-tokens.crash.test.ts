/**
 * A process is killed after it has redeemed a held poll, and before its client has the tokens. The client then gets
 * them by another poll.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { startServer } from '../support/process.ts'
import { CIBA, castConfig, credentials } from '../support/stage.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  test(`tokens whose server was killed after the commit reach the client when it polls again, on ${engine.name}`, async (t) => {
    const { port, start, post, statusOf } = await world(t, engine)
    const server = await start()
    t.after(() => server.kill())
    const { auth_req_id } = (await post('/backchannel/authorize', hint, credentials.kiosk)).body
    const poll = { grant_type: CIBA, auth_req_id: String(auth_req_id) }
    // The answer is never read.
    const socket = connect(port, '127.0.0.1').on('error', () => {})
    const body = String(new URLSearchParams(poll))
    socket.write(
      `POST /oauth/token HTTP/1.1\r\nhost: localhost\r\nauthorization: ${credentials.kiosk}\r\n` +
        `content-type: application/x-www-form-urlencoded\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    )
    const metrics = async () => (await fetch(`http://localhost:${port}/metrics`)).text()
    await until(async () => (await metrics()).includes('doorbell_polls_held 1\n'))
    const [request] = (await post('/backchannel/authinfo', { login_hint: 'ana' }, credentials.phoneService)).body
      .requests as [{ request_id: string }]
    const decision = { login_hint: 'ana', request_id: request.request_id, status: 'approved' }
    assert.equal((await post('/backchannel/complete', decision, credentials.phoneService)).status, 200)
    await until(async () => (await statusOf(request.request_id)) === 'redeemed')
    await server.kill()
    socket.destroy()

    const next = await start()
    t.after(() => next.kill())
    const again = await post('/oauth/token', poll, credentials.kiosk)
    assert.equal(again.status, 200)
    const authorization = `Bearer ${again.body.access_token}`
    assert.equal((await fetch(`http://localhost:${port}/oauth/userinfo`, { headers: { authorization } })).status, 200)
    assert.equal((await post('/oauth/token', poll, credentials.kiosk)).body.error, 'invalid_grant')
  })
}

const hint = { scope: 'openid', login_hint: 'ana' }

async function world(t: TestContext, engine: Engine) {
  const { url: database, drop } = await engine.fresh({ mayHaveTables: true })
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-crash-'))
  t.after(async () => {
    await drop()
    await rm(folder, { recursive: true, force: true })
  })
  const port = await freePort()
  const file = join(folder, 'doorbell.config.json')
  const requests = { longPoll: 20, repeatTokens: 60 }
  await writeFile(file, JSON.stringify(castConfig(port, database, { config: { requests } })))
  return {
    port,
    start: () => startServer(file),
    async post(path: string, form: Record<string, string>, authorization: string) {
      const headers = { authorization }
      const response = await fetch(`http://localhost:${port}${path}`, {
        method: 'POST',
        headers,
        body: new URLSearchParams(form),
      })
      return { status: response.status, body: (await response.json()) as Record<string, unknown> }
    },
    async statusOf(id: string) {
      const reading = await openDatabase(database, { log: createLog('silent'), clock: systemClock })
      const rows = await reading.read<{ status: string }>(
        'select status from backchannel_auth_requests where id = $1',
        [id],
      )
      await reading.close()
      return rows[0]?.status
    },
  }
}
