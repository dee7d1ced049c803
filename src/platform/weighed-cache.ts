/** A cache that is limited by the total size of its values. It is for values whose size a caller can choose. */

export type WeighedCache<Value> = ReturnType<typeof createWeighedCache<Value>>

/**
 * Returns an empty cache. When the values together take more than `mostBytes`, the values that were set first are
 * removed. A value that alone takes more than `mostBytes` is not cached.
 */
export function createWeighedCache<Value>(mostBytes: number) {
  const entries = new Map<string, { value: Value; bytes: number }>()
  let total = 0

  function remove(key: string): void {
    total -= entries.get(key)?.bytes ?? 0
    entries.delete(key)
  }

  function removeOldestWhile(isSurplus: (value: Value) => boolean): void {
    for (const [key, { value }] of entries) {
      if (!isSurplus(value)) return
      remove(key)
    }
  }

  return {
    get: (key: string): Value | undefined => entries.get(key)?.value,

    /** @param bytes the approximate memory that the value takes */
    set(key: string, value: Value, bytes: number): void {
      remove(key)
      entries.set(key, { value, bytes })
      total += bytes
      removeOldestWhile(() => total > mostBytes)
    },

    remove,
    /** Removes values in the order in which they were set, until `isSurplus` returns false for a value. */
    removeOldestWhile,
    clear(): void {
      entries.clear()
      total = 0
    },
  }
}
