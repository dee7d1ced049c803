/**
 * A caller closes its connection and sends the call again, to this node or to another. If the first call does work that
 * can be done only once, the server stops this work. Otherwise the tokens would be lost, or a user would be asked in
 * vain.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { UserHooks } from '../../src/user/user.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { ana, CIBA, credentials, openStage, type Stage } from '../support/stage.ts'
import { until } from '../support/until.ts'

const many = 20

for (const engine of engines) {
  describe(`a client that has hung up, on ${engine.name}`, () => {
    test('its poll redeems nothing: the next one gets the tokens (TK-14)', async (t) => {
      const stage = await openStage(t, { engine })
      const response = await Promise.all(Array.from({ length: many }, () => stage.ring('kiosk')))
      for (const { request_id: id } of await stage.waiting()) await stage.decide(String(id), 'approved')
      const polls = response.map(({ body }) => ({ grant_type: CIBA, auth_req_id: String(body.auth_req_id) }))
      for (const poll of polls) hangUp(stage, '/oauth/token', poll)
      await until(() => refused(stage) === many)
      for (const { auth_req_id: id } of polls) assert.equal((await stage.poll('kiosk', id)).status, 200)
    })

    test('its authentication request reaches no user', async (t) => {
      const stage = await openStage(t, { engine })
      for (let number = 0; number < many; number++) {
        hangUp(stage, '/backchannel/authorize', { scope: 'openid', login_hint: 'ana@example.com' })
      }
      await until(() => refused(stage) === many)
      assert.deepEqual(await stage.waiting(), [])
    })

    test('its refresh token is not used up', async (t) => {
      const stage = await openStage(t, { engine })
      const response = await stage.ring('kiosk', { scope: 'openid offline_access' })
      await stage.decide(await stage.newestRequest(), 'approved')
      const { body } = await stage.poll('kiosk', response.body.auth_req_id)
      const refresh = { grant_type: 'refresh_token', refresh_token: String(body.refresh_token) }
      for (let number = 0; number < many; number++) hangUp(stage, '/oauth/token', refresh)
      await until(() => refused(stage) === many)
      assert.equal((await stage.post('/oauth/token', refresh, credentials.kiosk)).status, 200)
    })
  })
}

test('a caller that hangs up causes no output outside the log, whichever part of the server was about to answer', async (t) => {
  const printed = t.mock.method(console, 'error', () => {})
  const stage = await openStage(t)
  const { hostname, port } = new URL(stage.url)
  const call = `GET /oauth/jwks HTTP/1.1\r\nhost: ${hostname}\r\n\r\n`.repeat(30)
  // Such output is possible only if an answer is written at the moment when the connection ends. About one in fifteen
  // answers is.
  for (let number = 0; number < 150; number++) {
    const socket = connect(Number(port), hostname).on('error', () => {})
    await once(socket, 'connect')
    socket.write(call)
    await setImmediate()
    number % 2 === 0 ? socket.resetAndDestroy() : socket.destroy()
    await stage.get('/health/live')
  }
  assert.equal(printed.mock.callCount(), 0)
})

test('a caller that sends something else than HTTP while its call is being answered causes no error in the log', async (t) => {
  const gate = createGate()
  const users: UserHooks = {
    findByHint: async () => ana,
    async find() {
      await gate.pass()
      return ana
    },
  }
  const stage = await openStage(t, { config: { users } })
  const { auth_req_id } = (await stage.ring('kiosk')).body
  await stage.decide(await stage.newestRequest(), 'approved')
  const { access_token } = (await stage.poll('kiosk', auth_req_id)).body
  gate.hold()
  const { hostname, port } = new URL(stage.url)
  const socket = connect(Number(port), hostname).on('error', () => {})
  await once(socket, 'connect')
  socket.write(`GET /oauth/userinfo HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer ${access_token}\r\n\r\n`)
  await gate.waiting(1)
  socket.resume().write('no http\r\n\r\n')
  await once(socket, 'close')
  gate.release()
  await stage.get('/health/live')
  assert.deepEqual(
    stage.logLines.filter((line) => JSON.parse(line).level >= 50),
    [],
  )
})

/** Sends a call, and closes the connection before the server can read the call. */
function hangUp({ url }: Stage, path: string, form: Record<string, string>): void {
  const body = String(new URLSearchParams(form))
  const lines = [
    `POST ${path} HTTP/1.1`,
    'host: localhost',
    `authorization: ${credentials.kiosk}`,
    'content-type: application/x-www-form-urlencoded',
    `content-length: ${body.length}`,
  ]
  const socket = connect(Number(new URL(url).port), '127.0.0.1', () => {
    socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`)
    socket.destroy()
  })
}

function refused({ logLines }: Stage): number {
  return logLines.filter((line) => line.includes('"refused"') && line.includes('"invalid_request"')).length
}
