/**
 * Limits how many messages are being sent at the same time:
 * - Each kind of message has a number of slots, so that a channel that hangs does not delay other channels.
 * - Each receiver has a small limit. The limit is higher while the receiver responds quickly.
 * - All slow receivers of a kind together can use only a part of the slots of the kind. All receivers that have not
 *   responded yet can together also use only a part of the slots.
 * - An attempt that does not end quickly counts as hanging and gives its slot back. The attempt keeps its slot if the
 *   receiver was already slow, or if `mostHanging` attempts of the kind hang without a slot.
 * So receivers that hang leave slots for receivers that respond quickly.
 */

/** A receiver of messages of one kind. */
export interface Receiver {
  kind: string
  receiver: string
}

/** How a receiver has responded lately. If this is not known, the receiver is `new`. */
export type Standing = 'quick' | 'new' | 'slow'

/** Identifies one limit: for one receiver, for all receivers of a kind with the same standing, or for a whole kind. */
export type Place = Pick<Receiver, 'kind'> & { receiver?: string; standing?: Standing }

/**
 * Maximum number of messages of one kind that are being sent at the same time. `new` applies to all new receivers
 * together, `slow` to all slow receivers together, and `quick` to all receivers together.
 */
const slotsOfKind = { quick: 64, new: 32, slow: 16 }
/** Upper limit for the messages that are being sent to one receiver, until the receiver has responded quickly. */
export const initialCapacityOfReceiver = 4
/**
 * Maximum number of attempts of one kind that hang and have given their slots back. Further attempts that hang keep
 * their slots.
 */
const mostHanging = 256
/**
 * Upper limit for the messages that are being sent to a receiver that responds quickly. This limit equals the limit for
 * connections to one origin (`outgoing.ts`).
 */
const mostCapacityOfReceiver = 16
/** Upper limit for the receivers of a kind that are remembered although no message is being sent to them. */
const maxIdleReceivers = 1_000
/** Number of quick responses after which a new receiver counts as quick. */
const owedByNew = 1
/**
 * Number of quick responses that outweigh one slow response. The number is greater than one, because a slow attempt
 * uses its slot for much longer than a quick attempt.
 */
const owedForSlow = 4
const mostOwed = owedForSlow * mostCapacityOfReceiver

/**
 * How many more messages may be claimed, for each kind and for each receiver. `ofOtherKind` applies to each kind that
 * is not in `kinds`, and `ofOtherReceiver` to each receiver that is not in `receivers`.
 */
export interface Capacity {
  kinds: KindCapacity[]
  receivers: ReceiverCapacity[]
  ofOtherKind: number
  ofOtherReceiver: number
}

/** How many more messages of a kind may be claimed: to all receivers, to new receivers, and to slow receivers. */
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
  /** The number of further quick responses after which the receiver counts as quick. */
  owed: number
}

/** An attempt to send a message that is in progress. */
export interface Attempt {
  receiver: KnownReceiver
  /** The standing of the receiver when the attempt began. The attempt uses one of the slots for this standing. */
  standing: Standing
  /** Whether the attempt has given its slot back, because it hangs. */
  hasNoSlot: boolean
}

export type ConcurrencyLimits = ReturnType<typeof createConcurrencyLimits>

/** Returns the limits for a process that is not sending any messages yet. */
export function createConcurrencyLimits() {
  const slots = createSlots()
  const receivers = createKnownReceivers()

  return {
    /**
     * Returns the limit that prevents a message from being sent now, or undefined if the message may be sent. The limit
     * of the kind is checked first, then the limit of the standing, then the limit of the receiver.
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

    /**
     * Frees the slot of an attempt that takes a long time, so that other messages can be sent. Does not change the
     * standing of the receiver.
     */
    giveUpSlot: (attempt: Attempt): void => slots.giveUp(attempt),

    /**
     * Records that the receiver has not responded quickly. Call this at most once for an attempt, and before the
     * attempt ends.
     */
    hang(attempt: Attempt): void {
      updateStanding(attempt.receiver, 'slowly')
      slots.giveUp(attempt)
    },

    /**
     * Records that an attempt to send a message has ended.
     *
     * @param manner how the receiver responded; undefined if that is unknown, or if `hang` was called for this attempt
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
   * Returns whether the query for due messages needs an entry for a receiver. The query treats a receiver without an
   * entry as new. So a quick receiver needs no entry while no message is being sent to it and there is capacity for new
   * receivers. This rule keeps the list short.
   */
  function isListed(receiver: KnownReceiver): boolean {
    const standing = standingOf(receiver)
    if (receiver.underWay > 0 || standing === 'slow') return true
    return standing === 'quick' && slots.room(receiver.kind, 'new') === 0
  }
}

/** Remembers the receivers to which messages are being sent, and receivers that have responded lately. */
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
     * Called when no message is being sent to a receiver any more. The receiver is remembered if its standing is
     * `quick` or `slow`. If too many such receivers of a kind are remembered, the receiver to which no message was sent
     * for the longest time is removed.
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

/**
 * Counts the attempts that have slots, by kind and by standing. Also counts the attempts that hang and have no slot.
 */
function createSlots() {
  const used = new Map<string, number>()
  const hanging = new Map<string, number>()
  const kinds = new Set<string>()
  const usedBy = (place: Place) => used.get(keyOf(place)) ?? 0
  const hangingOf = (kind: string) => hanging.get(kind) ?? 0

  function count({ receiver: { kind }, standing }: Attempt, sign: 1 | -1): void {
    for (const place of [{ kind }, { kind, standing }]) used.set(keyOf(place), usedBy(place) + sign)
  }

  /** Returns how many more messages of a kind may be sent to receivers with this standing. */
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
     * Called when an attempt hangs. An attempt to a slow receiver keeps its slot, because the slots for slow receivers
     * are meant for attempts that may hang.
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

/** Returns the key of a place in a map. The key is unambiguous, because a kind contains no space. */
export const keyOf = ({ kind, standing, receiver }: Place) =>
  receiver === undefined ? `${kind} ${standing ?? ''}` : `${kind}  ${receiver}`
