/**
 * Doorbell as an application runs it that has its own users. Settings are the defaults, the log included, but for the
 * lives that all servers share and the interval between polls.
 */
import type { JsonWebKey } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type ConfigInput, createDoorbell } from '../../src/index.ts'
import { clients, issuer, lives, secretOf } from '../cast.ts'
import { playPart } from '../part.ts'

export interface DoorbellSetup {
  database: string
  assertionKey: JsonWebKey
  /** Seconds between two polls. */
  interval: number
  /** More clients than the usual ones, and settings besides. Users that are listed take the place of the application's. */
  more?: Omit<ConfigInput, 'users'> & { users?: { id: string; username: string; password?: string }[] }
  /** False: nothing is sent and nothing runs out by itself. */
  workers?: boolean
}

playPart(async ({ database, assertionKey, interval, more, workers = true }: DoorbellSetup) => {
  const { clients: moreClients = [], ...settings } = more ?? {}
  const doorbell = await createDoorbell(
    {
      issuer,
      database,
      secret: secretOf('the server'),
      requests: { interval, defaultExpiry: lives.request },
      tokens: { accessTtl: lives.access, idTtl: lives.id },
      clients: [
        ...clients(assertionKey).map((client) => client as NonNullable<ConfigInput['clients']>[number]),
        { client_id: 'phone-service', client_secret: secretOf('phone-service'), backchannel_device_service: true },
        ...moreClients,
      ],
      users: { find: async (id) => ({ id }), findByHint: async ({ value }) => ({ id: value }) },
      ...settings,
    },
    { migrate: true, workers },
  )
  const server = createServer(doorbell.handler)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    answers: {
      async sweep() {
        const begin = performance.now()
        const settled = await doorbell.sweep()
        return { settled, milliseconds: performance.now() - begin }
      },
      idle: () => doorbell.idle(),
    },
    async close() {
      server.closeAllConnections()
      server.close()
      await doorbell.close()
    },
  }
})
