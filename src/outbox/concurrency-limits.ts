/**
 * Limits how many messages may be under way at the same time. Each kind has its own limit, so that a channel that hangs does
 * not delay other channels. Within a kind each receiver has a small limit, which is higher while the receiver responds
 * quickly. All receivers that responded slowly have only a part of the kind's slots, and so have all receivers that have not
 * responded yet. So, however many receivers hang, slots are left for receivers that respond quickly.
 */

/** A receiver of messages of one kind. */
export interface Receiver {
  kind: string
  receiver: string
}

/** How a receiver has responded lately: quickly, or slowly. A receiver is `new` if this is not known. */
export type Standing = 'quick' | 'new' | 'slow'

/** A receiver, all receivers of a kind with the same standing, or a whole kind. */
export type Place = Pick<Receiver, 'kind'> & { receiver?: string; standing?: Standing }

/** Upper limits for the messages of one kind that are under way, by the standing of their receivers. `quick` is for all. */
const slotsOfKind = { quick: 64, new: 32, slow: 16 }
/** Upper limit for the messages to one receiver, until the receiver has responded quickly. */
export const initialCapacityOfReceiver = 4
/** Upper limit for the messages to a receiver that responds quickly. It equals the limit for connections to one origin. */
const mostCapacityOfReceiver = 16
/** Upper limit for the idle receivers that are remembered. */
const maxIdleReceivers = 1_000
/** The quick responses that a new receiver owes until it counts as quick. */
const owedByNew = 1
/** The quick responses that a receiver owes for each slow one: while it hangs, it uses up more than it gets for one. */
const owedForSlow = 4
const mostOwed = 16

/**
 * How many more messages may be claimed: for each kind in `kinds`, for each receiver in `receivers`, for each other kind, and
 * for each other receiver.
 */
export interface Capacity {
  kinds: KindCapacity[]
  receivers: ReceiverCapacity[]
  ofOtherKind: number
  ofOtherReceiver: number
}

/** The capacity of a kind: for all messages, for those to new receivers, and for those to slow receivers. */
export interface KindCapacity {
  kind: string
  room: number
  roomOfNew: number
  roomOfSlow: number
}

export interface ReceiverCapacity extends Receiver {
  room: number
  underWay: number
  standing: Standing
}

/** How a receiver responded. `badly` means with an error, but quickly. */
export type ReceiverPace = 'quickly' | 'badly' | 'slowly'

type KnownReceiver = Receiver & {
  underWay: number
  share: number
  /** The number of quick responses until the receiver counts as quick. */
  owed: number
}

export type ConcurrencyLimits = ReturnType<typeof createConcurrencyLimits>

/** Returns the limits. At first, no messages are under way. */
export function createConcurrencyLimits() {
  const slots = createSlots()
  const receivers = new Map<string, KnownReceiver>()

  const find = ({ kind, receiver }: Receiver): KnownReceiver =>
    receivers.get(keyOf({ kind, receiver })) ?? {
      kind,
      receiver,
      underWay: 0,
      share: initialCapacityOfReceiver,
      owed: owedByNew,
    }

  return {
    /** Returns the outermost place of a message that has no capacity left, or undefined if the message may be sent. */
    fullPlace({ kind, receiver }: Receiver): Place | undefined {
      const known = find({ kind, receiver })
      const standing = standingOf(known)
      if (slots.room(kind, 'quick') === 0) return { kind }
      if (slots.room(kind, standing) === 0) return { kind, standing }
      return roomOf(known) === 0 ? { kind, receiver } : undefined
    },

    standingOf: (receiver: Receiver): Standing => standingOf(find(receiver)),

    room: (sent: string[]): Capacity => ({
      kinds: slots.ofKinds(sent),
      receivers: [...receivers.values()].filter(isListed).map((known) => ({
        ...receiverOf(known),
        room: Math.min(roomOf(known), slots.room(known.kind, standingOf(known))),
        underWay: known.underWay,
        standing: standingOf(known),
      })),
      ofOtherKind: slotsOfKind.quick,
      ofOtherReceiver: initialCapacityOfReceiver,
    }),

    begin(receiver: Receiver): void {
      const known = find(receiver)
      slots.count(known, -1)
      known.underWay += 1
      slots.count(known, 1)
      receivers.set(keyOf(receiverOf(known)), known)
    },

    /**
     * Records that an attempt to send a message has ended.
     *
     * @param manner how the receiver responded, or undefined if that is unknown
     */
    end(receiver: Receiver, manner?: ReceiverPace): void {
      const known = find(receiver)
      slots.count(known, -1)
      known.underWay -= 1
      if (manner === 'quickly') known.share = Math.min(known.share * 2, mostCapacityOfReceiver)
      else if (manner !== undefined) known.share = initialCapacityOfReceiver
      if (manner === 'slowly') known.owed = Math.min(known.owed + owedForSlow, mostOwed)
      else if (manner !== undefined) known.owed = Math.max(0, known.owed - 1)
      slots.count(known, 1)
      if (known.underWay === 0) becomeIdle(known)
    },
  }

  /**
   * Returns whether a query must be told of a receiver; it takes other receivers for new. This is enough for idle quick
   * receivers while there is room for new ones, and keeps the list short.
   */
  function isListed(receiver: KnownReceiver): boolean {
    const standing = standingOf(receiver)
    if (receiver.underWay > 0 || standing === 'slow') return true
    return standing === 'quick' && slots.room(receiver.kind, 'new') === 0
  }

  /**
   * Called when a receiver has no messages under way any more. The receiver is remembered if it has responded. If too many
   * idle receivers are remembered, the receiver that has been idle for longest is dropped.
   */
  function becomeIdle(receiver: KnownReceiver): void {
    const key = keyOf(receiverOf(receiver))
    receivers.delete(key)
    if (standingOf(receiver) !== 'new') receivers.set(key, receiver)
    if (receivers.size <= maxIdleReceivers) return
    for (const [oldest, { underWay }] of receivers) {
      if (underWay === 0) return void receivers.delete(oldest)
    }
  }
}

/** Counts the messages under way, by kind, and by kind and standing. */
function createSlots() {
  const used = new Map<string, number>()
  const kinds = new Set<string>()
  const usedBy = (place: Place) => used.get(keyOf(place)) ?? 0

  /** Returns how many more messages may be sent to receivers with this standing. */
  const room = (kind: string, standing: Standing) =>
    Math.max(0, slotsOfKind[standing] - usedBy(standing === 'quick' ? { kind } : { kind, standing }))

  return {
    room,
    ofKinds: (others: string[]): KindCapacity[] =>
      [...new Set([...others, ...kinds])].map((kind) => ({
        kind,
        room: room(kind, 'quick'),
        roomOfNew: room(kind, 'new'),
        roomOfSlow: room(kind, 'slow'),
      })),

    /** Adds (1) or subtracts (-1) the messages under way to a receiver. */
    count(receiver: KnownReceiver, sign: 1 | -1): void {
      const { kind, underWay } = receiver
      kinds.add(kind)
      for (const place of [{ kind }, { kind, standing: standingOf(receiver) }]) {
        used.set(keyOf(place), usedBy(place) + sign * underWay)
      }
    },
  }
}

const roomOf = ({ share, underWay }: KnownReceiver): number => Math.max(0, share - underWay)

function standingOf({ owed }: KnownReceiver): Standing {
  if (owed === 0) return 'quick'
  return owed === owedByNew ? 'new' : 'slow'
}

const receiverOf = ({ kind, receiver }: Receiver): Receiver => ({ kind, receiver })

/** Returns the key of a place in a map. A kind contains no space. */
export const keyOf = ({ kind, standing, receiver }: Place) =>
  receiver === undefined ? `${kind} ${standing ?? ''}` : `${kind}  ${receiver}`
