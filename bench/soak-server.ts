/** The server of the soak test. It runs in a separate process, receives its settings, and reports its memory. */
import { loadConfig } from '../src/config/load.ts'
import { createDoorbell } from '../src/doorbell.ts'
import { createLog } from '../src/platform/log.ts'

export interface SoakOrder {
  port: number
  database: string
  secret: string
  users: number
  /** Seconds for which finished records are kept. */
  keepFor: number
}

export interface SoakReport {
  rss: number
}

const report = () => process.send?.({ rss: process.memoryUsage.rss() } satisfies SoakReport)

process.on('message', async (asked: SoakOrder | 'report') => {
  if (asked === 'report') return report()
  await serve(asked)
  report()
})
process.on('disconnect', () => process.exit(0))

async function serve({ port, database, secret, users, keepFor }: SoakOrder): Promise<void> {
  const config = await loadConfig({
    env: {},
    overrides: {
      development: true,
      port,
      database,
      secret,
      requests: { maxOpenPerUser: 1000 },
      // The lifetimes are short, so that tokens also expire during the run.
      tokens: { accessTtl: Math.ceil(keepFor), idTtl: Math.ceil(keepFor) },
      clients: [
        { client_id: 'till', client_secret: secret, backchannel_token_delivery_mode: 'poll' },
        { client_id: 'phone', client_secret: secret, backchannel_device_service: true },
      ],
      users: Array.from({ length: users }, (_, number) => ({ id: `u${number}`, email: `u${number}@example.com` })),
    },
  })
  // In a configuration, the retention times are whole days, which are longer than a soak test.
  const days = keepFor / 86_400
  const retention = { requests: days, notifications: days }
  const doorbell = await createDoorbell({ ...config, retention }, { log: createLog('error') })
  await doorbell.listen()
}
