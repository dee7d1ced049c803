/**
 * Limits how many messages may be under way at the same time. Each kind has its own limit, so that a channel that hangs does
 * not delay other channels. Within a kind each receiver has a small limit, which is higher while the receiver responds
 * quickly. All receivers that responded slowly have only a part of the kind's slots, and so have all receivers that have not
 * responded yet. If any other receiver does not respond quickly, its attempt gives its slot back and counts as hanging. So,
 * however many receivers hang, slots are left for receivers that respond quickly.
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
/** Upper limit for the attempts of one kind that hang and have no slot. Those beyond it keep their slots. */
const mostHanging = 256
/** Upper limit for the messages to a receiver that responds quickly. It equals its limit for connections to one origin. */
const mostCapacityOfReceiver = 16
/** Upper limit for the idle receivers of a kind that are remembered. */
const maxIdleReceivers = 1_000
/** The quick responses that a new receiver owes until it counts as quick. */
const owedByNew = 1
/** The quick responses that a receiver owes for each slow one: while it hangs, it uses up more than it gets for one. */
const owedForSlow = 4
const mostOwed = owedForSlow * mostCapacityOfReceiver

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

/** A message that is under way. */
export interface Attempt {
  receiver: KnownReceiver
  /** The standing of the receiver when the attempt began: the attempt has one of the slots for this standing. */
  standing: Standing
  /** Whether the attempt has given its slot back, because it hangs. */
  hasNoSlot: boolean
}

export type ConcurrencyLimits = ReturnType<typeof createConcurrencyLimits>

/** Returns the limits. At first, no messages are under way. */
export function createConcurrencyLimits() {
  const slots = createSlots()
  const receivers = createKnownReceivers()

  return {
    /**
     * Returns the outermost place of a message that has no capacity left, or undefined if the message may be sent.
     *
     * @param of the standing whose slots count, by default that of the receiver
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
   * Returns whether a query must be told of a receiver; it takes other receivers for new. This is enough for idle quick
   * receivers while there is room for new ones, and keeps the list short.
   */
  function isListed(receiver: KnownReceiver): boolean {
    const standing = standingOf(receiver)
    if (receiver.underWay > 0 || standing === 'slow') return true
    return standing === 'quick' && slots.room(receiver.kind, 'new') === 0
  }
}

/** Remembers the receivers that have messages under way, and those that have responded lately. */
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
     * Called when a receiver has no messages under way any more. The receiver is remembered if it has responded. If too many
     * idle receivers of its kind are remembered, the one that has been idle for longest is dropped.
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

    /** Called when an attempt hangs. Attempts to slow receivers keep their slots, which are for attempts that may hang. */
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
