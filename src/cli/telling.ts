/** Telling users of what a command changes in their account: written by the command, sent by a running server. */
import {
  accountKindsOf,
  composeAccountNotices,
  type NewAccountChange,
} from '../authentication-device/channels/account-notice.ts'
import { createOutboxStore } from '../outbox/outbox-store.ts'
import type { Statement } from '../platform/storage/database.ts'
import type { Desk } from './context/desk.ts'

/** What goes into the step of a change: statements, and topics under which it is announced as well. */
export interface Telling {
  adding: Statement[]
  topics: string[]
}

export const nothing: Telling = { adding: [], topics: [] }

export function telling(change: NewAccountChange, { config, database, vault, clock }: Desk): Telling {
  const letters = composeAccountNotices(change, { kinds: accountKindsOf(config), vault, clock })
  return { adding: letters.map(createOutboxStore(database).add), topics: ['outbox'] }
}
