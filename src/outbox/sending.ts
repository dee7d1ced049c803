/** What is being sent at this moment: never more of a lane than its share, and nothing before what waits there already. */
import type { Clock } from '../platform/clock.ts'
import { createBehind } from './behind.ts'
import type { Letter, Outcome } from './notification.ts'
import { createShares, type Manner, type Room } from './shares.ts'

export interface SendingNeeds {
  /** The kinds that can be sent. */
  kinds(): string[]
  deliver(letter: Letter): Promise<Outcome['kind'] | undefined>
  /** There is room where there was none, or something may be due again: it is time to look. */
  onChance(): void
  /** Whether somebody waits for the last one to be sent. */
  isAwaited(): boolean
  clock: Pick<Clock, 'now'>
}

/** Milliseconds within which whoever takes something takes it quickly. */
const quickMs = 1_000

export type Sending = ReturnType<typeof createSending>

export function createSending({ kinds, deliver, onChance, isAwaited, clock }: SendingNeeds) {
  const shares = createShares()
  const behind = createBehind()
  const underWay = new Set<Promise<void>>()

  /** If there was none before, somebody may have waited for it. */
  function makeRoom(letter: Letter, manner?: Manner): void {
    const hadRoom = shares.hasRoom(letter)
    shares.end(letter, manner)
    if (!hadRoom) onChance()
  }

  function send(letter: Letter): void {
    const begun = clock.now()
    const sent = deliver(letter).then((outcome) => {
      underWay.delete(sent)
      makeRoom(letter, outcome && mannerOf(outcome, clock.now() - begun))
      // It may have to be sent again soon.
      if (outcome !== 'delivered' || isAwaited()) onChance()
    })
    underWay.add(sent)
  }

  return {
    /** Takes room for one that nobody waits before. Else it has to wait, and those that come after it, too. */
    reserve(letter: Letter): boolean {
      const { kind, lane } = letter
      const isNext = !behind.isBefore(letter) && shares.hasRoom(letter)
      if (isNext) shares.begin(letter)
      else behind.note(shares.isKindFull(kind) ? { kind } : { kind, lane })
      return isNext
    },
    /** Sends one for which room was taken. */
    send,
    /** It is not sent now after all. */
    release: (letter: Letter) => makeRoom(letter),
    /** Sends what is due, as far as there is room. @returns how many it were */
    async takeOn(claim: (room: Room) => Promise<Letter[]>): Promise<number> {
      const room = shares.room(kinds())
      if (room.kinds.every(({ room }) => room === 0)) return 0
      const forgetWhoCaughtUp = behind.look(room)
      const letters = await claim(room)
      for (const letter of letters) {
        shares.begin(letter)
        send(letter)
      }
      forgetWhoCaughtUp(letters)
      return letters.length
    },
    underWay: (): readonly Promise<void>[] => [...underWay],
    isIdle: () => underWay.size === 0,
  }
}

const mannerOf = (outcome: Outcome['kind'], tookMs: number): Manner =>
  outcome === 'delivered' && tookMs <= quickMs ? 'quickly' : 'badly'
