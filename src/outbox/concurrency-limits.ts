/**
 * Limits how many messages may be under way at the same time. Each kind has its own limit, so that a channel that hangs does
 * not delay other channels. Within a kind each receiver has a small limit, so that a receiver that hangs delays only its own
 * messages. A receiver that responds quickly gets a higher limit.
 */

/** A receiver of messages of one kind. */
export interface Receiver {
  kind: string
  receiver: string
}

/** A receiver, or a whole kind. */
export type Place = Pick<Receiver, 'kind'> & Partial<Receiver>

/** Upper limit for the messages of one kind that are under way. */
const capacityPerKind = 64
/** Upper limit for the messages to one receiver, until the receiver has responded quickly. */
export const initialCapacityOfReceiver = 4
/** Upper limit for the messages to a receiver that responds quickly. It equals the limit for connections to one origin. */
const mostCapacityOfReceiver = 16
/** Upper limit for the idle receivers whose raised limit is remembered. */
const maxIdleReceivers = 1_000

/**
 * How many more messages may be claimed: for each kind in `kinds`, for each receiver in `receivers` (a receiver with
 * messages under way), for each other kind, and for each other receiver.
 */
export interface Capacity {
  kinds: { kind: string; room: number }[]
  receivers: (Receiver & { room: number })[]
  ofOtherKind: number
  ofOtherReceiver: number
}

/** How a receiver responded. `badly` means slowly, or with an error. */
export type ReceiverPace = 'quickly' | 'badly'

type KnownReceiver = Receiver & { underWay: number; share: number }

export type ConcurrencyLimits = ReturnType<typeof createConcurrencyLimits>

/** Returns the limits. At first, no messages are under way. */
export function createConcurrencyLimits() {
  const kinds = new Map<string, number>()
  const receivers = new Map<string, KnownReceiver>()

  const capacityOfKind = (kind: string) => Math.max(0, capacityPerKind - (kinds.get(kind) ?? 0))
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
      ofOtherKind: capacityPerKind,
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

    /**
     * Records that an attempt to send a message has ended.
     *
     * @param manner how the receiver responded, or undefined if that is unknown
     */
    end(receiver: Receiver, manner?: ReceiverPace): void {
      kinds.set(receiver.kind, kinds.get(receiver.kind)! - 1)
      const known = receivers.get(keyOf(receiver))!
      known.underWay -= 1
      if (manner === 'quickly') known.share = Math.min(known.share * 2, mostCapacityOfReceiver)
      if (manner === 'badly') known.share = initialCapacityOfReceiver
      if (known.underWay === 0) becomeIdle(known)
    },
  }

  /**
   * Called when a receiver has no messages under way any more. The receiver is remembered only if its limit is raised. If
   * too many idle receivers are remembered, the receiver that has been idle for longest is dropped.
   */
  function becomeIdle(receiver: KnownReceiver): void {
    receivers.delete(keyOf(receiver))
    if (receiver.share > initialCapacityOfReceiver) receivers.set(keyOf(receiver), receiver)
    if (receivers.size <= maxIdleReceivers) return
    for (const [oldest, { underWay }] of receivers) {
      if (underWay === 0) return void receivers.delete(oldest)
    }
  }
}

/** Returns the key of a receiver or a kind in a map. */
export const keyOf = ({ kind, receiver }: Place) => (receiver === undefined ? kind : `${kind} ${receiver}`)
