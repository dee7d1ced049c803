/**
 * How much may be under way at once. Each kind has room of its own, so that a channel that hangs holds up no other; and
 * within it one lane has little, so that a receiver that hangs holds up only its own. Whoever takes quickly gets more.
 */

/** One receiver's share of one kind. */
export interface Lane {
  kind: string
  lane: string
}

/** A lane, or a whole kind. */
export type Place = Pick<Lane, 'kind'> & Partial<Lane>

/** What of a kind may be under way at once. */
const ofKind = 64
/** What of a lane: at first, and as long as it takes quickly. As many as there are connections to one receiver. */
export const fewOfLane = 4
const manyOfLane = 16
/** Lanes at rest that are known to take quickly, at most. */
const remembered = 1_000

/** How much more may be taken on: of each kind that can be sent, of each lane in which something is under way, of any other. */
export interface Room {
  kinds: { kind: string; room: number }[]
  lanes: (Lane & { room: number })[]
  ofOtherKind: number
  ofOtherLane: number
}

export type Manner = 'quickly' | 'badly'

type KnownLane = Lane & { underWay: number; share: number }

export type Shares = ReturnType<typeof createShares>

export function createShares() {
  const kinds = new Map<string, number>()
  const lanes = new Map<string, KnownLane>()

  const roomOfKind = (kind: string) => Math.max(0, ofKind - (kinds.get(kind) ?? 0))
  const roomOfLane = (lane: Lane) => {
    const known = lanes.get(keyOf(lane))
    return known ? Math.max(0, known.share - known.underWay) : fewOfLane
  }

  return {
    isKindFull: (kind: string): boolean => roomOfKind(kind) === 0,

    hasRoom: (lane: Lane): boolean => roomOfKind(lane.kind) > 0 && roomOfLane(lane) > 0,

    room: (sent: string[]): Room => ({
      kinds: [...new Set([...sent, ...kinds.keys()])].map((kind) => ({ kind, room: roomOfKind(kind) })),
      lanes: [...lanes.values()]
        .filter(({ underWay }) => underWay > 0)
        .map(({ kind, lane }) => ({ kind, lane, room: roomOfLane({ kind, lane }) })),
      ofOtherKind: ofKind,
      ofOtherLane: fewOfLane,
    }),

    begin({ kind, lane }: Lane): void {
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
      const known = lanes.get(keyOf({ kind, lane })) ?? { kind, lane, underWay: 0, share: fewOfLane }
      known.underWay += 1
      lanes.set(keyOf(known), known)
    },

    /** @param manner how it was taken; nothing, if that is not known */
    end(lane: Lane, manner?: Manner): void {
      kinds.set(lane.kind, kinds.get(lane.kind)! - 1)
      const known = lanes.get(keyOf(lane))!
      known.underWay -= 1
      if (manner === 'quickly') known.share = Math.min(known.share * 2, manyOfLane)
      if (manner === 'badly') known.share = fewOfLane
      if (known.underWay === 0) rest(known)
    },
  }

  /** Nothing of it is under way any more. Those at rest are in the order in which they came to it. */
  function rest(lane: KnownLane): void {
    lanes.delete(keyOf(lane))
    if (lane.share > fewOfLane) lanes.set(keyOf(lane), lane)
    if (lanes.size <= remembered) return
    for (const [oldest, { underWay }] of lanes) {
      if (underWay === 0) return void lanes.delete(oldest)
    }
  }
}

export const keyOf = ({ kind, lane }: Place) => (lane === undefined ? kind : `${kind} ${lane}`)
