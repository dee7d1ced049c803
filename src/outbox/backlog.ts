/** Who has fallen behind: in which receivers, and whole kinds, some wait that came before those who come now. */
import { type Capacity, initialCapacityOfReceiver, keyOf, type Place, type Receiver } from './concurrency-limits.ts'

export type Backlog = ReturnType<typeof createBacklog>

export function createBacklog() {
  /** With the number of the look that had begun when the last of them came. */
  const places = new Map<string, { place: Place; sinceLook: number }>()
  let looks = 0

  return {
    /** Whether somebody is before whoever comes now. */
    isBefore: ({ kind, receiver }: Receiver): boolean =>
      places.has(keyOf({ kind })) || places.has(keyOf({ kind, receiver })),

    /** From now on somebody waits there. */
    note: (place: Place): void => void places.set(keyOf(place), { place, sinceLook: looks }),

    /** A look begins. @returns to be told what it has found: where there was more room than was taken, nobody waits any more */
    look(room: Capacity): (taken: readonly Receiver[]) => void {
      looks += 1
      const number = looks
      return (taken) => {
        if (places.size === 0) return
        const isFilled = filling(taken, room)
        for (const [key, { place, sinceLook }] of places) {
          // Who came since the look began may not have been seen.
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
    // However much room a receiver has, no more than these may have been looked for.
    return isTaken(
      { kind, receiver },
      Math.min(rooms.get(keyOf({ kind, receiver })) ?? room.ofOtherReceiver, initialCapacityOfReceiver),
    )
  }
}
