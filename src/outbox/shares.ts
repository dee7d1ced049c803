/**
 * How much may be under way at once. Each kind has hands of its own, so that a channel that hangs holds up no other; and
 * of those hands one lane gets few, so that a receiver that hangs holds up only its own. Whoever takes well gets more.
 */

/** One receiver's share of one kind. */
export interface Lane {
  kind: string
  lane: string
}

/** What of a kind may be under way at once. */
const ofKind = 64
/** What of a lane: at first, and after a failure; and as long as all goes well. As many connections as there are to one receiver. */
const [fewOfLane, manyOfLane] = [4, 16]
/** Lanes that are known to take well while nothing is under way: beyond that, those that have been still for long are forgotten. */
const remembered = 1_000

/** How many more may be taken on: of those kinds and lanes of which something is under way, and of any other. */
export interface Room {
  kinds: { kind: string; room: number }[]
  lanes: (Lane & { room: number })[]
  ofOtherKind: number
  ofOtherLane: number
}

type KnownLane = Lane & { underWay: number; share: number }

export type Shares = ReturnType<typeof createShares>

export function createShares() {
  const kinds = new Map<string, number>()
  const lanes = new Map<string, KnownLane>()

  const roomOfKind = (kind: string) => Math.max(0, ofKind - (kinds.get(kind) ?? 0))
  const roomOfLane = (one: Lane) => {
    const known = lanes.get(keyOf(one))
    return known ? Math.max(0, known.share - known.underWay) : fewOfLane
  }

  return {
    hasRoom: (one: Lane): boolean => roomOfKind(one.kind) > 0 && roomOfLane(one) > 0,

    /** Of all kinds that are known, those too of which nothing is under way. */
    room: (known: string[]): Room => ({
      kinds: [...new Set([...known, ...kinds.keys()])].map((kind) => ({ kind, room: roomOfKind(kind) })),
      lanes: [...lanes.values()]
        .filter(({ underWay }) => underWay > 0)
        .map(({ kind, lane }) => ({ kind, lane, room: roomOfLane({ kind, lane }) })),
      ofOtherKind: ofKind,
      ofOtherLane: fewOfLane,
    }),

    begin(one: Lane): void {
      kinds.set(one.kind, (kinds.get(one.kind) ?? 0) + 1)
      const known = lanes.get(keyOf(one)) ?? { kind: one.kind, lane: one.lane, underWay: 0, share: fewOfLane }
      known.underWay += 1
      lanes.set(keyOf(one), known)
    },

    /** @param went how it went, if it was tried */
    end(one: Lane, went?: 'well' | 'badly'): void {
      kinds.set(one.kind, kinds.get(one.kind)! - 1)
      const known = lanes.get(keyOf(one))!
      known.underWay -= 1
      if (went === 'well') known.share = Math.min(known.share * 2, manyOfLane)
      if (went === 'badly') known.share = fewOfLane
      if (known.underWay === 0) rest(keyOf(one), known)
    },
  }

  /** Nothing of it is under way any more. Those at rest are in the order in which they came to it. */
  function rest(key: string, lane: KnownLane): void {
    lanes.delete(key)
    if (lane.share > fewOfLane) lanes.set(key, lane)
    if (lanes.size <= remembered) return
    for (const [oldest, { underWay }] of lanes) {
      if (underWay === 0) return void lanes.delete(oldest)
    }
  }
}

export const keyOf = ({ kind, lane }: Lane) => `${kind} ${lane}`
