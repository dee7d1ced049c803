/**
 * Cache database rows only while we receive change notifications for them. A change may be announced while a row is being
 * read, so take a snapshot before the read and check it afterwards.
 */
import type { Database } from './database.ts'

/** A row that was read after it may be kept while `isUnchangedSince` returns true. */
export interface Snapshot {
  epoch: number | undefined
  /** How many changes had been received. */
  heard: number
}

/** Tells whether a row that was read may have changed since a snapshot. */
export interface ChangeTracker {
  snapshot(): Snapshot
  /** Returns true only if no change of `key` can have happened since the snapshot. */
  isUnchangedSince(snapshot: Snapshot, key: string): boolean
}

/** How many keys are remembered with their last change. Snapshots taken before the oldest of these are no longer valid. */
const mostKeys = 10_000

/**
 * @param topic the topic under which changes are announced
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
