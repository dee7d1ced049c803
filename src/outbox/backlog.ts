/** Records which receivers and kinds have a backlog: older messages wait, and newer messages queue behind the older ones. */
import { type Capacity, initialCapacityOfReceiver, keyOf, type Place, type Receiver } from './concurrency-limits.ts'

export type Backlog = ReturnType<typeof createBacklog>

/** Returns an empty backlog. */
export function createBacklog() {
  /**
   * The receivers and kinds with a backlog, by key. The worker's queries for due messages are numbered. `sinceLook` is the
   * number of the latest query at the time when a waiting message was last noted. Only a query that begins after that time
   * can show that no message waits any more.
   */
  const places = new Map<string, { place: Place; sinceLook: number }>()
  /** The number of the latest query that has begun. */
  let looks = 0

  return {
    /** Returns whether older messages of this receiver or of the whole kind wait. */
    isBefore: ({ kind, receiver }: Receiver): boolean =>
      places.has(keyOf({ kind })) || places.has(keyOf({ kind, receiver })),

    /** Records that a message of this receiver or kind waits. */
    note: (place: Place): void => void places.set(keyOf(place), { place, sinceLook: looks }),

    /**
     * Records that the worker begins a query for due messages.
     *
     * @returns a function that must be called with the messages that the worker claimed. It removes the backlog of each
     * receiver and kind whose capacity was not used up, because no message waits for that receiver or kind any more
     */
    look(room: Capacity): (taken: readonly Receiver[]) => void {
      looks += 1
      const number = looks
      return (taken) => {
        if (places.size === 0) return
        const isFilled = filling(taken, room)
        for (const [key, { place, sinceLook }] of places) {
          // The query may have missed messages that were noted after it began, so the backlog of these messages is kept.
          if (sinceLook < number && !isFilled(place)) places.delete(key)
        }
      }
    },
  }
}

function filling(taken: readonly Receiver[], room: Capacity): (place: Place) => boolean {
  const numbers = new Map<string, number>()
  for (const { kind, receiver } of taken) {
    for (const key of [keyOf({ kind }), keyOf({ kind, receiver })]) numbers.set(key, (numbers.get(key) ?? 0) + 1)
  }
  const rooms = new Map([...room.kinds, ...room.receivers].map((place) => [keyOf(place), place.room]))
  const isTaken = (place: Place, most: number) => (numbers.get(keyOf(place)) ?? 0) >= most

  return ({ kind, receiver }) => {
    if (isTaken({ kind }, rooms.get(kind) ?? room.ofOtherKind)) return true
    if (receiver === undefined) return false
    // The query may have considered only the first `initialCapacityOfReceiver` messages of a receiver, even if the receiver
    // has more capacity.
    return isTaken(
      { kind, receiver },
      Math.min(rooms.get(keyOf({ kind, receiver })) ?? room.ofOtherReceiver, initialCapacityOfReceiver),
    )
  }
}
