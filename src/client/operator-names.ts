/**
 * Caches the names of the operator's clients. Anonymous callers can cause comparisons with these names. So all names
 * are read and converted to skeletons once. After a change, only the names of the changed clients are read.
 */
import { type Clock, steadyTime } from '../platform/clock.ts'
import type { Database } from '../platform/storage/database.ts'
import { KnownNames } from './metadata/similar-names.ts'
import type { OperatorNameStore } from './operator-name-store.ts'

/**
 * While `epoch` is undefined, notifications of changes may be missed. Then all names are read again after this many
 * milliseconds.
 */
const trustedForMs = 5_000
/** If more clients than this have changed, all names are read again. */
const mostChanges = 1_000

/** Resolves to the names of the operator's clients. */
export type OperatorNames = () => Promise<KnownNames>

interface Loaded {
  names: KnownNames
  /** The value of `database.epoch` when the names were read. */
  epoch: number | undefined
  readAt: number
  /** The clients that have changed since their names were read. */
  changed: Set<string>
}

/** Returns the function that resolves to the names. It reads them at its first call. */
export function createOperatorNames(
  store: OperatorNameStore,
  { database, clock }: { database: Pick<Database, 'listen' | 'epoch'>; clock: Clock },
): OperatorNames {
  let loaded: Loaded | undefined
  /** The new set of names while all names are being read; undefined at all other times. */
  let loading: Loaded | undefined
  let reading: Promise<void> | undefined

  database.listen('client', (id) => {
    for (const each of [loaded, loading]) each?.changed.add(id)
  })

  /** Returns whether all names must be read. */
  function isOutdated({ epoch, readAt, changed }: Loaded): boolean {
    if (changed.has('') || changed.size > mostChanges) return true
    return database.epoch === undefined ? steadyTime(clock) >= readAt + trustedForMs : epoch !== database.epoch
  }

  const isCurrent = () => loaded !== undefined && !isOutdated(loaded) && loaded.changed.size === 0

  async function readAll(): Promise<void> {
    const all: Loaded = {
      names: new KnownNames(),
      epoch: database.epoch,
      readAt: steadyTime(clock),
      changed: new Set(),
    }
    loading = all
    try {
      for await (const page of store.pages()) for (const { id, names } of page) all.names.set(id, names)
      loaded = all
    } finally {
      loading = undefined
    }
  }

  async function readChanged({ names, changed }: Loaded): Promise<void> {
    const ids = [...changed]
    changed.clear()
    try {
      const rows = new Map((await store.findAll(ids)).map((row) => [row.id, row.names]))
      for (const id of ids) names.set(id, rows.get(id) ?? [])
    } catch (error) {
      for (const id of ids) changed.add(id)
      throw error
    }
  }

  const read = () => (loaded === undefined || isOutdated(loaded) ? readAll() : readChanged(loaded))

  return async () => {
    // Concurrent callers wait for the same read. A client may have changed since that read began, so the loop checks
    // once more.
    for (let look = 0; look < 2 && !isCurrent(); look++) {
      reading ??= read().finally(() => {
        reading = undefined
      })
      await reading
    }
    return loaded!.names
  }
}
