/** Builds the part of the public API that an application calls in its own code. */
import { createDeviceApi } from '../authentication-device/api/in-process-api.ts'
import type { Ciba, CibaNeeds } from './ciba.ts'
import type { Work } from './operations.ts'

/** Returns the members of `Doorbell` that an application calls. */
export function forTheApplication(
  { platform, clients, users, stored, outbox }: CibaNeeds,
  { decide }: Ciba,
  work: Work,
) {
  const { config, details, clock } = platform
  return {
    requests: createDeviceApi({ requests: stored.requests, clients: clients.clients, decide, details, clock }),
    users: {
      async signOut(userId: string) {
        await users.endUser(userId, 'signed_out', { by: 'application' })
      },
      async end(userId: string) {
        // If an application supplies the users, `closes` is false: Doorbell does not mark the user as removed, because
        // only the hooks of the application decide whether a user exists.
        await users.endUser(userId, 'removed', { by: 'application', closes: Array.isArray(config.users) })
      },
    },
    async idle() {
      await Promise.all([outbox.worker.idle(), stored.pending.flush()])
    },
    sweep: async () => (await work.sweep.sweep()) + ((await work.absentUsers?.look()) ?? 0),
    prune: () => work.pruning.prune(),
  }
}
