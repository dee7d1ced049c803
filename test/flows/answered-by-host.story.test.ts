/**
 * Doorbell is mounted in another server. That server answers a call itself before Doorbell does, for example at its own
 * time limit.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { engines } from '../support/engines.ts'
import { CIBA, credentials, openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  test(`a held poll that the host has answered ends there, and the server goes on, on ${engine.name}`, async (t) => {
    const stage = await openStage(t, { engine, config: { requests: { longPoll: 20 } } })
    const responses: ServerResponse[] = []
    const host = createServer((request, response) => {
      responses.push(response)
      stage.doorbell.handler(request, response)
    })
    host.listen(0, '127.0.0.1')
    await once(host, 'listening')
    t.after(() => host.close())
    const poll = (auth_req_id: unknown) =>
      fetch(`http://127.0.0.1:${(host.address() as AddressInfo).port}/oauth/token`, {
        method: 'POST',
        headers: { authorization: credentials.kiosk },
        body: new URLSearchParams({ grant_type: CIBA, auth_req_id: String(auth_req_id) }),
      })
    const { auth_req_id } = (await stage.ring('kiosk')).body

    const held = poll(auth_req_id)
    await until(async () => (await stage.get('/metrics')).text.includes('doorbell_polls_held 1\n'))
    responses[0]!.writeHead(504).end('the host gave up')
    assert.equal((await held).status, 504)
    // Doorbell notices that the response has ended, and no longer holds the poll.
    await until(async () => (await stage.get('/metrics')).text.includes('doorbell_polls_held 0\n'))
    await stage.decide(await stage.newestRequest(), 'approved')
    assert.equal((await poll(auth_req_id)).status, 200)
  })
}
