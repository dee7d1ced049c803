/** The table row of a notification. */
import type { RowOf } from '../platform/storage/row.ts'
import type { Notification, OutboxMessage } from './notification.ts'

/** In the table, the receiver is the column `lane`. */
export type NotificationRow = Omit<RowOf<OutboxMessage>, 'receiver'> & { lane: string }

/** Converts a row; columns that are null become undefined. */
export function toMessage(row: NotificationRow): OutboxMessage {
  const { sealed, lease, revoked_at } = row
  return {
    ...withoutContent(row),
    sealed: sealed ?? undefined,
    lease: lease ?? undefined,
    revokedAt: revoked_at ?? undefined,
  }
}

/** Converts a row, without the encrypted content and the lease. */
export function withoutContent(row: NotificationRow): Notification {
  return {
    id: row.id,
    kind: row.kind,
    subject: row.subject,
    receiver: row.lane,
    address: row.address ?? undefined,
    state: row.state,
    createdAt: row.created_at,
    dueAt: row.due_at,
    giveUpAt: row.give_up_at,
    attempts: row.attempts,
    lastOutcome: row.last_outcome ?? undefined,
    settledAt: row.settled_at ?? undefined,
  }
}
