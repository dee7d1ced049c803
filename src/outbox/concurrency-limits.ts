/**
 * Limits how many messages are being sent at the same time. Each kind has its own limit, a number of slots, so that a
 * channel that hangs does not delay other channels. Within a kind, each receiver has a small limit, which is higher
 * while the receiver responds quickly. The receivers that responded slowly can together use only a part of the kind's
 * slots, and so can the receivers that have not responded yet. An attempt that does not end quickly gives its slot back
 * and counts as hanging. An attempt to a receiver that was slow before keeps its slot. So, however many receivers hang,
 * slots are left for receivers that respond quickly.
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

/**
 * Maximum number of messages of one kind that are being sent to receivers with the same standing. The limit `quick`
 * applies to the messages to all receivers together.
 */
const slotsOfKind = { quick: 64, new: 32, slow: 16 }
/** Upper limit for the messages to one receiver, until the receiver has responded quickly. */
export const initialCapacityOfReceiver = 4
/**
 * Maximum number of hanging attempts of one kind that have given their slots back. Further hanging attempts keep
 * theirs.
 */
const mostHanging = 256
/**
 * Upper limit for the messages to a receiver that responds quickly. It equals the limit for connections to one origin.
 */
const mostCapacityOfReceiver = 16
/** Upper limit for the idle receivers of a kind that are remembered. */
const maxIdleReceivers = 1_000
/** Number of quick responses until a new receiver counts as quick. */
const owedByNew = 1
/**
 * Number of quick responses that make up for one slow response: an attempt that hangs uses its slot for much longer.
 */
const owedForSlow = 4
const mostOwed = owedForSlow * mostCapacityOfReceiver

/**
 * How many more messages may be claimed: for each kind in `kinds`, for each receiver in `receivers`, for each other
 * kind, and for each other receiver.
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

/** An attempt to send a message that has begun and not ended. */
export interface Attempt {
  receiver: KnownReceiver
  /** The standing of the receiver when the attempt began: the attempt has one of the slots for this standing. */
  standing: Standing
  /** Whether the attempt has given its slot back, because it hangs. */
  hasNoSlot: boolean
}

export type ConcurrencyLimits = ReturnType<typeof createConcurrencyLimits>

/** Returns the limits. At first, no messages are being sent. */
export function createConcurrencyLimits() {
  const slots = createSlots()
  const receivers = createKnownReceivers()

  return {
    /**
     * Returns the place without capacity that keeps a message from being sent, or undefined if the message may be sent.
     * The kind is checked first, then the standing, then the receiver.
     *
     * @param of the standing whose slots are checked. Default: the standing of the receiver
     */
    fullPlace({ kind, receiver }: Receiver, of?: Standing): Place | undefined {
      const known = receivers.find({ kind, receiver })
      const standing = of ?? standingOf(known)
      if (slots.room(kind, 'quick') === 0) return { kind }
      if (slots.room(kind, standing) === 0) return { kind, standing }
      return roomOf(known) === 0 ? { kind, receiver } : undefined
    },

    standingOf: (receiver: Receiver): Standing => standingOf(receivers.find(receiver)),

    room: (sent: string[]): Capacity => ({
      kinds: slots.ofKinds(sent),
      receivers: receivers.listed(isListed).map((known) => ({
        kind: known.kind,
        receiver: known.receiver,
        room: Math.min(roomOf(known), slots.room(known.kind, standingOf(known))),
        underWay: known.underWay,
        standing: standingOf(known),
      })),
      ofOtherKind: slotsOfKind.quick,
      ofOtherReceiver: initialCapacityOfReceiver,
    }),

    begin(to: Receiver): Attempt {
      const receiver = receivers.find(to)
      receiver.underWay += 1
      receivers.add(receiver)
      const attempt = { receiver, standing: standingOf(receiver), hasNoSlot: false }
      slots.take(attempt)
      return attempt
    },

    /** Frees the slot of an attempt that takes long, so that other messages can be sent. */
    giveUpSlot: (attempt: Attempt): void => slots.giveUp(attempt),

    /** Records that the receiver has not responded quickly. Call this at most once for an attempt, before its end. */
    hang(attempt: Attempt): void {
      updateStanding(attempt.receiver, 'slowly')
      slots.giveUp(attempt)
    },

    /**
     * Records that an attempt to send a message has ended.
     *
     * @param manner how the receiver responded, or undefined if that is unknown, or was recorded by `hang`
     */
    end(attempt: Attempt, manner?: 'quickly' | 'badly'): void {
      const { receiver } = attempt
      receiver.underWay -= 1
      slots.free(attempt)
      if (manner !== undefined) updateStanding(receiver, manner)
      if (receiver.underWay === 0) receivers.becomeIdle(receiver)
    },
  }

  /**
   * Returns whether the query for due messages needs an entry for a receiver. The query treats receivers without an
   * entry as new. For idle quick receivers this is sufficient while there is capacity for new receivers, and it keeps
   * the list short.
   */
  function isListed(receiver: KnownReceiver): boolean {
    const standing = standingOf(receiver)
    if (receiver.underWay > 0 || standing === 'slow') return true
    return standing === 'quick' && slots.room(receiver.kind, 'new') === 0
  }
}

/** Remembers the receivers to which messages are being sent, and those that have responded lately. */
function createKnownReceivers() {
  const kinds = new Map<string, Map<string, KnownReceiver>>()

  function ofKind(kind: string): Map<string, KnownReceiver> {
    const known = kinds.get(kind) ?? new Map<string, KnownReceiver>()
    kinds.set(kind, known)
    return known
  }

  return {
    listed: (isListed: (receiver: KnownReceiver) => boolean): KnownReceiver[] =>
      [...kinds.values()].flatMap((known) => [...known.values()].filter(isListed)),

    find: ({ kind, receiver }: Receiver): KnownReceiver =>
      kinds.get(kind)?.get(receiver) ?? {
        kind,
        receiver,
        underWay: 0,
        share: initialCapacityOfReceiver,
        owed: owedByNew,
      },

    add: (receiver: KnownReceiver): void => void ofKind(receiver.kind).set(receiver.receiver, receiver),

    /**
     * Called when no messages are being sent to a receiver any more. The receiver is remembered if its standing is
     * known. If too many idle receivers of its kind are remembered, the one that has been idle for longest is dropped.
     */
    becomeIdle(receiver: KnownReceiver): void {
      const known = ofKind(receiver.kind)
      known.delete(receiver.receiver)
      if (standingOf(receiver) !== 'new') known.set(receiver.receiver, receiver)
      if (known.size <= maxIdleReceivers) return
      for (const [oldest, { underWay }] of known) {
        if (underWay === 0) return void known.delete(oldest)
      }
    },
  }
}

/** Updates the capacity and the standing of a receiver. */
function updateStanding(receiver: KnownReceiver, manner: ReceiverPace): void {
  if (manner === 'quickly') receiver.share = Math.min(receiver.share * 2, mostCapacityOfReceiver)
  else receiver.share = initialCapacityOfReceiver
  if (manner === 'slowly') receiver.owed = Math.min(receiver.owed + owedForSlow, mostOwed)
  else receiver.owed = Math.max(0, receiver.owed - 1)
}

/** Counts the attempts that have slots, by kind, and by kind and standing, and those that hang and have no slot. */
function createSlots() {
  const used = new Map<string, number>()
  const hanging = new Map<string, number>()
  const kinds = new Set<string>()
  const usedBy = (place: Place) => used.get(keyOf(place)) ?? 0
  const hangingOf = (kind: string) => hanging.get(kind) ?? 0

  function count({ receiver: { kind }, standing }: Attempt, sign: 1 | -1): void {
    for (const place of [{ kind }, { kind, standing }]) used.set(keyOf(place), usedBy(place) + sign)
  }

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

    take(attempt: Attempt): void {
      kinds.add(attempt.receiver.kind)
      count(attempt, 1)
    },

    /**
     * Called when an attempt hangs. Attempts to slow receivers keep their slots, which are for attempts that may hang.
     */
    giveUp(attempt: Attempt): void {
      const { kind } = attempt.receiver
      if (attempt.hasNoSlot || attempt.standing === 'slow' || hangingOf(kind) >= mostHanging) return
      count(attempt, -1)
      hanging.set(kind, hangingOf(kind) + 1)
      attempt.hasNoSlot = true
    },

    /** Called when an attempt ends. */
    free(attempt: Attempt): void {
      const { kind } = attempt.receiver
      if (attempt.hasNoSlot) hanging.set(kind, hangingOf(kind) - 1)
      else count(attempt, -1)
    },
  }
}

const roomOf = ({ share, underWay }: KnownReceiver): number => Math.max(0, share - underWay)

function standingOf({ owed }: KnownReceiver): Standing {
  if (owed === 0) return 'quick'
  return owed === owedByNew ? 'new' : 'slow'
}

/** Returns the key of a place in a map. A kind contains no space. */
export const keyOf = ({ kind, standing, receiver }: Place) =>
  receiver === undefined ? `${kind} ${standing ?? ''}` : `${kind}  ${receiver}`
