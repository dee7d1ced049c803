/** Telling users of what a command changes in their account: written by the command, sent by a running server. */
import {
  accountKindsOf,
  createNoticesOfChange,
  type NewAccountChange,
} from '../authentication-device/channels/account-notice.ts'
import type { Letter } from '../outbox/notification.ts'
import type { Desk } from './context/desk.ts'

export function noticesOfChange(change: NewAccountChange, { config, vault, clock }: Desk): Letter[] {
  return createNoticesOfChange({ kinds: accountKindsOf(config), vault, clock })(change)
}
