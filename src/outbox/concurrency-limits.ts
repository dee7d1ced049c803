/**
 * How much may be under way at once. Each kind has room of its own, so that a channel that hangs holds up no other; and
 * within it one receiver has little, so that a receiver that hangs holds up only its own. Whoever takes quickly gets more.
 */

/** One receiver's share of one kind. */
export interface Receiver {
  kind: string
  receiver: string
}

/** A receiver, or a whole kind. */
export type Place = Pick<Receiver, 'kind'> & Partial<Receiver>

/** What of a kind may be under way at once. */
const ofKind = 64
/** What of a receiver: at first, and as long as it takes quickly. As many as there are connections to one receiver. */
export const initialCapacityOfReceiver = 4
const mostCapacityOfReceiver = 16
/** Lanes at rest that are known to take quickly, at most. */
const remembered = 1_000

/** How much more may be taken on: of each kind that can be sent, of each receiver in which something is under way, of any other. */
export interface Capacity {
  kinds: { kind: string; room: number }[]
  receivers: (Receiver & { room: number })[]
  ofOtherKind: number
  ofOtherReceiver: number
}

export type Manner = 'quickly' | 'badly'

type KnownReceiver = Receiver & { underWay: number; share: number }

export type ConcurrencyLimits = ReturnType<typeof createConcurrencyLimits>

export function createConcurrencyLimits() {
  const kinds = new Map<string, number>()
  const receivers = new Map<string, KnownReceiver>()

  const capacityOfKind = (kind: string) => Math.max(0, ofKind - (kinds.get(kind) ?? 0))
  const capacityOfReceiver = (receiver: Receiver) => {
    const known = receivers.get(keyOf(receiver))
    return known ? Math.max(0, known.share - known.underWay) : initialCapacityOfReceiver
  }

  return {
    isKindFull: (kind: string): boolean => capacityOfKind(kind) === 0,

    hasCapacity: (receiver: Receiver): boolean => capacityOfKind(receiver.kind) > 0 && capacityOfReceiver(receiver) > 0,

    room: (sent: string[]): Capacity => ({
      kinds: [...new Set([...sent, ...kinds.keys()])].map((kind) => ({ kind, room: capacityOfKind(kind) })),
      receivers: [...receivers.values()]
        .filter(({ underWay }) => underWay > 0)
        .map(({ kind, receiver }) => ({ kind, receiver, room: capacityOfReceiver({ kind, receiver }) })),
      ofOtherKind: ofKind,
      ofOtherReceiver: initialCapacityOfReceiver,
    }),

    begin({ kind, receiver }: Receiver): void {
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
      const known = receivers.get(keyOf({ kind, receiver })) ?? {
        kind,
        receiver,
        underWay: 0,
        share: initialCapacityOfReceiver,
      }
      known.underWay += 1
      receivers.set(keyOf(known), known)
    },

    /** @param manner how it was taken; nothing, if that is not known */
    end(receiver: Receiver, manner?: Manner): void {
      kinds.set(receiver.kind, kinds.get(receiver.kind)! - 1)
      const known = receivers.get(keyOf(receiver))!
      known.underWay -= 1
      if (manner === 'quickly') known.share = Math.min(known.share * 2, mostCapacityOfReceiver)
      if (manner === 'badly') known.share = initialCapacityOfReceiver
      if (known.underWay === 0) rest(known)
    },
  }

  /** Nothing of it is under way any more. Those at rest are in the order in which they came to it. */
  function rest(receiver: KnownReceiver): void {
    receivers.delete(keyOf(receiver))
    if (receiver.share > initialCapacityOfReceiver) receivers.set(keyOf(receiver), receiver)
    if (receivers.size <= remembered) return
    for (const [oldest, { underWay }] of receivers) {
      if (underWay === 0) return void receivers.delete(oldest)
    }
  }
}

export const keyOf = ({ kind, receiver }: Place) => (receiver === undefined ? kind : `${kind} ${receiver}`)
