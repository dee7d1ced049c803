/**
 * Builds the outbox: notifications to clients and to users' devices that wait to be sent. The functions that send the
 * notifications are passed to the outbox later, when the background work starts.
 */
import { isAboutAccount } from '../authentication-device/channels/account-notice.ts'
import { createOutboxStore, OUTBOX } from '../outbox/outbox-store.ts'
import { createOutboxWorker } from '../outbox/outbox-worker.ts'
import { timeoutMsOf } from './channels.ts'
import type { Platform } from './platform.ts'

export type Outbox = ReturnType<typeof composeOutbox>

export function composeOutbox({ config, database, clock, log, audit }: Platform) {
  const store = createOutboxStore(database)
  const worker = createOutboxWorker({
    outbox: store,
    attempts: config.notifications.attempts,
    isAboutUser: isAboutAccount,
    timeout: timeoutMsOf(config),
    onChange: (listener) => database.listen(OUTBOX, listener),
    clock,
    log,
    audit,
  })
  return { store, worker, enqueue: worker.enqueue }
}
