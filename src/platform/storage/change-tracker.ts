/**
 * Tells whether a database row may be cached. A row may be cached only while this process is notified of each change
 * (`Database.listen`). Take a snapshot before the row is read, and check the snapshot after the read, because the row
 * may change in between.
 */
import type { Database } from './database.ts'

/**
 * A value that is taken before a row is read. A cached row may be used as long as `isUnchangedSince` returns true for
 * its snapshot.
 */
export interface Snapshot {
  epoch: number | undefined
  /** The number of changes of which this process had been notified when the snapshot was taken. */
  heard: number
}

/** Tells whether a row that was read may have changed since a snapshot. */
export interface ChangeTracker {
  snapshot(): Snapshot
  /** Returns true only if no change of `key` can have happened since the snapshot. */
  isUnchangedSince(snapshot: Snapshot, key: string): boolean
}

/**
 * Upper limit for the keys whose last change is remembered. At this limit, all keys are dropped, and all earlier
 * snapshots become invalid.
 */
const mostKeys = 10_000

/**
 * Returns a tracker for the rows whose changes are published under one topic (`StepOptions.announce`).
 *
 * @param topic the topic
 * @param forget called with the key of each change; '' means all keys
 */
export function createChangeTracker(
  database: Pick<Database, 'listen' | 'epoch'>,
  topic: string,
  forget: (key: string) => void,
): ChangeTracker {
  const changes = new Map<string, number>()
  let heard = 0
  let oldest = 0

  database.listen(topic, (key) => {
    heard += 1
    if (key === '' || changes.size >= mostKeys) {
      changes.clear()
      oldest = heard
    }
    changes.set(key, heard)
    forget(key)
  })

  return {
    snapshot: () => ({ epoch: database.epoch, heard }),
    isUnchangedSince: (snapshot, key) =>
      snapshot.epoch !== undefined &&
      snapshot.epoch === database.epoch &&
      snapshot.heard >= oldest &&
      (changes.get(key) ?? 0) <= snapshot.heard,
  }
}
