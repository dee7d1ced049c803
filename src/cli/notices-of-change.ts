/**
 * Notifies users of changes that a command makes to their account: enqueued by the command, sent by a running server.
 */
import {
  accountKindsOf,
  createNoticesOfChange,
  type NewAccountChange,
} from '../authentication-device/channels/account-notice.ts'
import type { OutboxMessage } from '../outbox/notification.ts'
import type { CommandContext } from './context/desk.ts'

export function noticesOfChange(change: NewAccountChange, { config, vault, clock }: CommandContext): OutboxMessage[] {
  return createNoticesOfChange({ kinds: accountKindsOf(config), vault, clock })(change)
}
