/**
 * Notifies users of changes that a command makes to their account. The command only stores the messages; a running
 * server sends them.
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
