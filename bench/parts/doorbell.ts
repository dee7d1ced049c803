/**
 * Doorbell in an application that has its own user directory. All settings, including those of the log, have their
 * defaults. The exceptions are the lifetimes, which are the same for all measured servers, and the interval between
 * polls.
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
  /** The interval between two polls, in seconds. */
  interval: number
  /** Additional clients and settings. If it lists users, they replace the users of the application. */
  more?: Omit<ConfigInput, 'users'> & { users?: { id: string; username: string; password?: string }[] }
  /** False: the background workers do not run. So no notification is sent, and no request is marked as expired. */
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
