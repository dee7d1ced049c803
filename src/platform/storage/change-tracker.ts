/**
 * What may be kept in memory of what lies in the database: only what somebody would have told us had it changed. A row
 * is read, and on the way to us it may be announced as changed: so whoever reads takes the mark before, and asks after.
 */
import type { Database } from './database.ts'

/** A row that was read after it may be kept while `isUnchangedSince` returns true. */
export interface Snapshot {
  epoch: number | undefined
  heard: number
}

export interface ChangeTracker {
  snapshot(): Snapshot
  /** Whether `key` has not changed since, as far as anybody could have told. */
  isUnchangedSince(snapshot: Snapshot, key: string): boolean
}

/** Keys whose last change is remembered. What was marked before the oldest of them holds no more. */
const mostKeys = 10_000

/**
 * @param topic under which changes are announced
 * @param forget hears of each change; '' is all
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
