/**
 * Tells whether a database row may be cached. A row may be cached only while this process is told of each change
 * (`Database.listen`). The row may change while it is read. So take a snapshot before the read, and check the snapshot
 * after the read.
 */
import type { Database } from './database.ts'

/**
 * A value that is taken before a row is read. The row may be cached while `isUnchangedSince` returns true for this
 * snapshot.
 */
export interface Snapshot {
  epoch: number | undefined
  /** The number of changes of which this process had been told when the snapshot was taken. */
  heard: number
}

/** Tells whether a row that was read may have changed since a snapshot. */
export interface ChangeTracker {
  snapshot(): Snapshot
  /** Returns true only if no change of `key` can have happened since the snapshot. */
  isUnchangedSince(snapshot: Snapshot, key: string): boolean
}

/**
 * Upper limit for the keys whose last change is remembered. At this limit, all keys are dropped, and all earlier snapshots
 * become invalid.
 */
const mostKeys = 10_000

/**
 * Returns a tracker for the rows whose changes are announced under one topic.
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
