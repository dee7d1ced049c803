/**
 * Keeps the current signing keys in memory. All nodes are notified when a key is added or changed, and a timer runs
 * until the next change of a key's state. The keys are also read periodically, because on SQLite the server is not
 * notified when a command, which is another process, changes the keys.
 */
import type { Audit } from '../../platform/audit.ts'
import type { Log } from '../../platform/log.ts'
import { createPeriodicTask } from '../../platform/periodic-task.ts'
import { createRepeatedFailures } from '../../platform/repeated-failures.ts'
import { type RotationNeeds, rotateWhatIsDue } from './key-rotation.ts'
import type { KeptKey } from './signing-key-store.ts'
import { listKeys, nextRotationAt, type SigningKeys, signingKeysAt, stateOf, useful } from './signing-keys.ts'

export interface SigningKeyWatch {
  /** Returns the current keys from memory. */
  now(): SigningKeys
  /** Calls the given function at once with the current keys, and after each change with the new keys. */
  use(use: (keys: SigningKeys) => void): void
  /**
   * Begins to read the keys periodically.
   *
   * @param options.rotates whether this node rotates due keys automatically
   */
  start(options: { rotates: boolean }): void
  stop(): Promise<void>
}

export interface WatchNeeds extends RotationNeeds {
  /**
   * Calls `listener` after each notification that a key was added or changed. Returns a function that removes the
   * listener.
   */
  onChange(listener: () => void): () => void
  log: Log
  audit: Audit
}

/** Milliseconds between two reads of the keys if no notification of a change is received. */
const pollIntervalMs = 5_000

/** Upper limit for a timer in milliseconds: Node.js timers cannot run for a month. */
const longestSleepMs = 24 * 3600_000

/**
 * Resolves to the watch, after the keys were read for the first time.
 *
 * @throws if a key cannot be decrypted, because it was encrypted with another secret
 */
export async function createSigningKeyWatch(needs: WatchNeeds): Promise<SigningKeyWatch> {
  const { clock, vault, log } = needs
  const failures = createRepeatedFailures(log, { event: 'keys.look_failed' }, 'the signing keys could not be read')
  await needs.keys.keepAtLeast(clock.now(), needs.times)
  let kept = await listKeys(needs)
  let knownStates = statesAsText(kept, clock.now())
  let current = signingKeysAt(kept, clock.now(), vault)
  const users: ((keys: SigningKeys) => void)[] = []

  let isRunning = false
  let rotates = false
  let cancelAlarm = () => {}
  let stopListening = () => {}

  /**
   * Determines the states of the keys in memory by the clock. If a state has changed, passes the keys to all functions
   * that were registered with `use`.
   */
  function turn(): void {
    const now = clock.now()
    const next = statesAsText(kept, now)
    if (next !== knownStates) {
      const keys = signingKeysAt(kept, now, vault)
      for (const use of users) use(keys)
      current = keys
      knownStates = next
      log.info({ event: 'keys.changed', keys: JSON.parse(next) })
    }
    setAlarm(now)
  }

  function setAlarm(now: number): void {
    cancelAlarm()
    const next = nextRotationAt(kept, now)
    if (isRunning && next !== undefined) {
      cancelAlarm = clock.after(Math.min(next - now, longestSleepMs), turnByAlarm)
    }
  }

  function turnByAlarm(): void {
    try {
      turn()
    } catch (error) {
      failures.failed(error)
    }
  }

  async function look(): Promise<number> {
    kept = await listKeys(needs)
    if (rotates && (await rotate())) kept = await listKeys(needs)
    turn()
    return pollIntervalMs
  }

  async function rotate(): Promise<boolean> {
    const rotations = await rotateWhatIsDue(kept, needs)
    for (const { algorithm, next } of rotations) {
      needs.audit({ event: 'keys.rotated', by: algorithm, about: next.kid })
    }
    return rotations.length > 0
  }

  // After an error, the keys that were read before stay in use.
  const looking = createPeriodicTask({ work: look, failures, retryAfterMs: pollIntervalMs, clock })

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

/**
 * Returns the states of all keys in use as text, so that two results can be compared to find out whether a state has
 * changed.
 */
function statesAsText(kept: KeptKey[], now: number): string {
  const states = kept.map((key) => [key.kid, stateOf(key, now)] as const)
  return JSON.stringify(states.filter(([, state]) => useful.includes(state)))
}
