/**
 * Hundreds of clients have name servers that do not respond. Pings and pushes to them delay no ping to another client,
 * on both engines.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { callBack } from '../../src/ciba/client-notification/notification-endpoint.ts'
import type { Sender } from '../../src/outbox/delivery.ts'
import { createGuardedCaller } from '../../src/platform/http/outgoing.ts'
import { engines } from '../support/engines.ts'
import { longMs, namesAsked } from '../support/name-lookup.ts'
import { openNameServer } from '../support/name-server.ts'
import { tea, teaRoom } from '../support/outbox.ts'
import { furnished, post } from '../support/rows.ts'
import { until } from '../support/until.ts'

const kinds = ['ping', 'push']
/** How many new receivers get a slot of the outbox within a second, for pings and pushes together. */
const begunEachSecond = 64

for (const engine of engines) {
  describe(`clients whose name servers are silent, on ${engine.name}`, () => {
    for (const count of [300, 3_000]) {
      test(`${count} that nobody has called before delay no client that has answered, and another new one only in the outbox`, async (t) => {
        const { one } = await furnished(t, engine)
        const { worker, table, outbox, clock } = await teaRoom(t, { on: one.database, timeout: longMs })
        const names = await openNameServer(t)
        names.hush(/^silent/)
        for (const name of ['till.example', 'newcomer.example']) names.tell(name, ['127.0.0.1'])
        const limits = { timeout: longMs, maxBytes: 1000, allowPrivateNetworks: true, allowHttp: true }
        const caller = createGuardedCaller({ ...limits, clock, nameServers: [names.address] })
        t.after(() => caller.close())
        const endpoint = await openEndpoint(t)
        const sender: Sender = {
          send({ receiver, address }, signal, onCall) {
            onCall()
            return callBack({ clientId: receiver, address: address!, bearer: 'its token', body: '{}' }, caller, signal)
          },
        }
        const honest = (client: string) =>
          tea({ kind: 'ping', receiver: client, address: endpoint.at(`${client}.example`) })
        const isDelivered = async ({ id }: { id: string }) => (await outbox.find(id))!.state === 'delivered'
        async function pingTill() {
          const ping = honest('till')
          await post(table, ping)
          await until(() => isDelivered(ping))
        }

        worker.start({ ping: sender, push: sender })
        await pingTill()
        const silent = Array.from({ length: count }, (_, n) =>
          kinds.map((kind) => tea({ kind, receiver: `client ${n}`, address: `https://silent-${kind}${n}.example/` })),
        )
        await post(table, ...silent.flat())
        const newcomer = honest('newcomer')
        await post(table, newcomer)
        const seconds = Math.ceil((2 * 300) / begunEachSecond)
        for (let second = 1; second <= seconds; second++) {
          await until(() => namesAsked(names, /^silent/).size >= Math.min(2 * count, second * begunEachSecond))
          await pingTill()
          clock.advance(1_000)
        }
        if (count === 300) await until(() => isDelivered(newcomer))
        const calls = endpoint.calls()
        assert.equal(calls.filter((host) => host.startsWith('till')).length, 1 + seconds)
        assert.equal(endpoint.connections(), calls.length, 'each call has a connection of its own')
        const lookups = names.asked.filter((each) => each === 'till.example A')
        assert.equal(lookups.length, 1 + seconds, 'and a lookup of its own')
        // The clock stands still, so no timer of the worker ends the calls.
        await Promise.all([worker.stop(), caller.close()])
      })
    }
  })
}

/** A notification endpoint that closes each connection after one call. */
async function openEndpoint(t: TestContext) {
  const calls: string[] = []
  let connections = 0
  const server = createServer((request, response) => {
    calls.push(String(request.headers.host))
    response.writeHead(204, { connection: 'close' }).end()
  })
  server.on('connection', () => {
    connections += 1
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    at: (name: string) => `http://${name}:${(server.address() as AddressInfo).port}/notify`,
    calls: () => calls,
    connections: () => connections,
  }
}
