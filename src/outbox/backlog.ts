/** Receivers and kinds with a backlog: newer messages queue behind older ones. */
import { type Capacity, initialCapacityOfReceiver, keyOf, type Place, type Receiver } from './concurrency-limits.ts'

export type Backlog = ReturnType<typeof createBacklog>

/** Returns an empty backlog. */
export function createBacklog() {
  /** Each place with the number of the latest look that had begun when its last message was noted. */
  const places = new Map<string, { place: Place; sinceLook: number }>()
  let looks = 0

  return {
    /** Whether older messages wait for this receiver or its kind. */
    isBefore: ({ kind, receiver }: Receiver): boolean =>
      places.has(keyOf({ kind })) || places.has(keyOf({ kind, receiver })),

    /** Records that a message waits there. */
    note: (place: Place): void => void places.set(keyOf(place), { place, sinceLook: looks }),

    /**
     * Records that the worker begins to look for due messages.
     *
     * @returns a function for the messages that it took; a place that had more capacity than was taken has no backlog any more
     */
    look(room: Capacity): (taken: readonly Receiver[]) => void {
      looks += 1
      const number = looks
      return (taken) => {
        if (places.size === 0) return
        const isFilled = filling(taken, room)
        for (const [key, { place, sinceLook }] of places) {
          // The look may not have seen messages that were added after it began.
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
    // The query may have looked for no more than this, even if the receiver has more capacity.
    return isTaken(
      { kind, receiver },
      Math.min(rooms.get(keyOf({ kind, receiver })) ?? room.ofOtherReceiver, initialCapacityOfReceiver),
    )
  }
}
