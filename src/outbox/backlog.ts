/**
 * Records which limits messages have to wait for, so that newer messages wait behind these messages. There is a limit
 * for each receiver, for all receivers with the same standing (`Standing`), and for each kind of message. A `Place`
 * identifies one of these limits. A place has a backlog if messages wait for its capacity.
 */
import {
  type Capacity,
  initialCapacityOfReceiver,
  keyOf,
  type Place,
  type Receiver,
  type Standing,
} from './concurrency-limits.ts'

export type Backlog = ReturnType<typeof createBacklog>

/** Returns an empty backlog. */
export function createBacklog() {
  /**
   * The places with a backlog, by key. The worker's queries for due messages are numbered. `sinceLook` is the number of
   * the query that was the latest when a message was last recorded as waiting for this place. Only a query with a
   * higher number can show that no message waits for the place any more.
   */
  const places = new Map<string, { place: Place; sinceLook: number }>()
  /** The number of the latest query that has begun. */
  let looks = 0

  return {
    /**
     * Returns whether older messages wait for capacity of this receiver, of all receivers with this standing, or of the
     * kind.
     */
    isBefore: ({ kind, receiver }: Receiver, standing: Standing): boolean =>
      places.size > 0 && [{ kind }, { kind, standing }, { kind, receiver }].some((place) => places.has(keyOf(place))),

    /** Records that a message waits for capacity of this place. */
    note: (place: Place): void => void places.set(keyOf(place), { place, sinceLook: looks }),

    /**
     * Records that the worker begins a query for due messages.
     *
     * @returns a function that must be called with the messages that the worker has claimed. The function removes the
     *   backlog of each place whose capacity was not used up. No message waits for such a place any more
     */
    look(room: Capacity): (taken: readonly Receiver[]) => void {
      looks += 1
      const number = looks
      return (taken) => {
        if (places.size === 0) return
        const isFilled = filling(taken, room)
        for (const [key, { place, sinceLook }] of places) {
          // If a message was recorded as waiting after the query began, the query may not have found this message. So
          // the backlog of its place is kept.
          if (sinceLook < number && !isFilled(place)) places.delete(key)
        }
      }
    },
  }
}

function filling(taken: readonly Receiver[], room: Capacity): (place: Place) => boolean {
  const known = new Map(room.receivers.map((receiver) => [keyOf(placeOf(receiver)), receiver]))
  const standingOf = (receiver: Receiver): Standing => known.get(keyOf(placeOf(receiver)))?.standing ?? 'new'
  const numbers = new Map<string, number>()
  for (const { kind, receiver } of taken) {
    for (const place of [{ kind }, { kind, standing: standingOf({ kind, receiver }) }, { kind, receiver }]) {
      numbers.set(keyOf(place), (numbers.get(keyOf(place)) ?? 0) + 1)
    }
  }
  const isTaken = (place: Place, most: number) => (numbers.get(keyOf(place)) ?? 0) >= most

  return ({ kind, receiver, standing = receiver && standingOf({ kind, receiver }) }) => {
    const ofKind = room.kinds.find((one) => one.kind === kind)
    if (isTaken({ kind }, ofKind?.room ?? room.ofOtherKind)) return true
    if (standing === 'new' && ofKind && isTaken({ kind, standing }, ofKind.roomOfNew)) return true
    if (standing === 'slow' && ofKind && isTaken({ kind, standing }, ofKind.roomOfSlow)) return true
    if (receiver === undefined) return false
    // The query may have considered only the first `initialCapacityOfReceiver` messages to each receiver, even if the
    // receiver has more capacity.
    const ofReceiver = known.get(keyOf({ kind, receiver }))?.room ?? room.ofOtherReceiver
    return isTaken({ kind, receiver }, Math.min(ofReceiver, initialCapacityOfReceiver))
  }
}

const placeOf = ({ kind, receiver }: Receiver): Place => ({ kind, receiver })
