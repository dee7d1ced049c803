/**
 * The signing keys as they are at the moment. A node hears of a change at once, notices by the clock when a key's time
 * has come, and looks now and then at what it may not have heard of: on SQLite, a command in another process.
 */
import type { Audit } from '../../platform/audit.ts'
import type { Log } from '../../platform/log.ts'
import { createPeriodicTask } from '../../platform/periodic-task.ts'
import { type RotationNeeds, rotateWhatIsDue } from './key-rotation.ts'
import type { KeptKey } from './signing-key-store.ts'
import { listKeys, nextTurn, type SigningKeys, signingKeysAt, stateOf, useful } from './signing-keys.ts'

export interface SigningKeyWatch {
  /** From memory: it costs nothing. */
  now(): SigningKeys
  /** Calls `use` with the keys as they are, and again whenever they have changed. */
  use(use: (keys: SigningKeys) => void): void
  /** @param options.rotates whether this node rotates what is due by itself */
  start(options: { rotates: boolean }): void
  stop(): Promise<void>
}

export interface WatchNeeds extends RotationNeeds {
  /** Hears that something was changed. Returns how to stop listening. */
  onChange(listener: () => void): () => void
  log: Log
  audit: Audit
}

/** Milliseconds between two looks when nobody says anything. */
const pollIntervalMs = 5_000

/** Milliseconds: timers do not run for a month. */
const longestSleepMs = 24 * 3600_000

/** @throws if a key cannot be opened: it was sealed with another secret */
export async function createSigningKeyWatch(needs: WatchNeeds): Promise<SigningKeyWatch> {
  const { clock, vault, log } = needs
  await needs.keys.keepAtLeast(clock.now(), needs.times)
  let kept = await listKeys(needs)
  let standing = standingOf(kept, clock.now())
  let current = signingKeysAt(kept, clock.now(), vault)
  const users: ((keys: SigningKeys) => void)[] = []

  let isRunning = false
  let rotates = false
  let cancelAlarm = () => {}
  let stopListening = () => {}

  /** What the clock says of the keys we know. */
  function turn(): void {
    const now = clock.now()
    const next = standingOf(kept, now)
    if (next !== standing) {
      const keys = signingKeysAt(kept, now, vault)
      for (const use of users) use(keys)
      current = keys
      standing = next
      log.info({ event: 'keys.changed', keys: JSON.parse(next) })
    }
    setAlarm(now)
  }

  function setAlarm(now: number): void {
    cancelAlarm()
    const next = nextTurn(kept, now)
    if (isRunning && next !== undefined) {
      cancelAlarm = clock.after(Math.min(next - now, longestSleepMs), () => trying(turn))
    }
  }

  async function look(): Promise<number> {
    await trying(async () => {
      kept = await listKeys(needs)
      if (rotates && (await rotate())) kept = await listKeys(needs)
      turn()
    })
    return pollIntervalMs
  }

  async function rotate(): Promise<boolean> {
    const rotations = await rotateWhatIsDue(kept, needs)
    for (const { algorithm, next } of rotations) {
      needs.audit({ event: 'keys.rotated', by: algorithm, about: next.kid })
    }
    return rotations.length > 0
  }

  /** Whatever goes wrong here, the keys known so far go on working. */
  async function trying(work: () => void | Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      log.error({ event: 'keys.look_failed', error }, 'the signing keys could not be read; it will be tried again')
    }
  }

  const looking = createPeriodicTask({ work: look, clock })

  return {
    now: () => current,
    use(use) {
      users.push(use)
      use(current)
    },
    start(options) {
      isRunning = true
      rotates = options.rotates
      stopListening = needs.onChange(looking.wake)
      setAlarm(clock.now())
      looking.start(0)
    },
    async stop() {
      isRunning = false
      stopListening()
      cancelAlarm()
      await looking.stop()
    },
  }
}

/** Which key is good for what. Equal texts mean that nothing has to be made anew. */
function standingOf(kept: KeptKey[], now: number): string {
  const states = kept.map((key) => [key.kid, stateOf(key, now)] as const)
  return JSON.stringify(states.filter(([, state]) => useful.includes(state)))
}
