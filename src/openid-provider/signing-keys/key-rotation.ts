/**
 * Rotates signing keys. A rotation is one transaction, which stores the times at which the states of the keys change.
 * After the rotation, the state of a key depends only on these times and the clock.
 */
import type { KeptKey, Retirement } from './signing-key-store.ts'
import {
  type KeyAlgorithm,
  type KeyNeeds,
  keyAlgorithms,
  listKeys,
  makeKey,
  nextGeneration,
  stateOf,
} from './signing-keys.ts'

/** Durations in milliseconds. */
export interface KeyTimes {
  /**
   * How long a key is published before it signs. In this time, the key sets that clients have cached expire, and
   * clients fetch the key set with the new key.
   */
  publishAhead: number
  /** How long a token that is signed now is valid. */
  tokensLast: number
  /** How long an ID token that is signed now can be used as `id_token_hint`. */
  hintsLast: number
  /** How long a key signs before it is rotated automatically. If undefined, keys are never rotated automatically. */
  rotateEvery?: number | undefined
}

export interface RotationNeeds extends KeyNeeds {
  times: KeyTimes
}

/** The result of a rotation. */
export interface Rotation {
  algorithm: KeyAlgorithm
  /** `under_way`: this or another process had already published the next key, so nothing was changed. */
  outcome: 'rotated' | 'under_way'
  /** The key that signs now or next. */
  next: KeptKey
  /** The key before `next`. */
  former: KeptKey | undefined
  revoked: KeptKey[]
}

/**
 * Safety margin in milliseconds, because clocks differ, and because a key may be retired while a response that it
 * signed is still on its way.
 */
const slack = 5 * 60_000

/**
 * Returns the durations that follow from the configuration.
 *
 * @param settings sections of the configuration, with times in seconds
 */
export function keyTimesOf(settings: {
  keys: { publishAhead: number; rotateEvery?: number | undefined; keepForHints: number }
  tokens: { idTtl: number; accessTtl: number }
  resources?: Record<string, { accessTtl?: number | undefined }>
}): KeyTimes {
  const { keys, tokens, resources = {} } = settings
  const lives = [tokens.idTtl, tokens.accessTtl, ...Object.values(resources).map(({ accessTtl = 0 }) => accessTtl)]
  return {
    publishAhead: keys.publishAhead * 1000,
    tokensLast: Math.max(...lives) * 1000 + slack,
    hintsLast: keys.keepForHints * 1000,
    rotateEvery: keys.rotateEvery === undefined ? undefined : keys.rotateEvery * 1000,
  }
}

/**
 * Returns the seconds for which clients may cache the key set. This is half of `publishAhead`, the time from the
 * publication of a key to its first signature. The other half is a reserve for nodes that read a new key a little
 * later, and for clocks that differ.
 */
export function keySetMaxAge(publishAhead: number): number {
  return Math.floor(publishAhead / 2)
}

/**
 * Publishes the next key, which begins to sign after `publishAhead`. If a key that does not sign yet is already
 * published, no key is added. So two simultaneous rotations add only one key.
 * @param options.atOnce makes the published key sign now. If no key is published, a new key signs at once, although no
 *   client has fetched it yet
 */
export async function rotateKey(
  algorithm: KeyAlgorithm,
  { atOnce = false }: { atOnce?: boolean },
  needs: RotationNeeds,
): Promise<Rotation> {
  const { keys, clock, times } = needs
  const kept = await listKeys(needs)
  const now = clock.now()
  const waiting = waitingOf(kept, algorithm, now)
  const changed =
    waiting === undefined
      ? await succeed({ algorithm, signsFrom: atOnce ? now : now + times.publishAhead }, kept, needs)
      : atOnce && (await keys.hasten(waiting, now, retirement(now, times)))
  const after = await keys.list()
  // Another process was faster and published a key that does not sign yet. The next call makes that key sign now.
  if (!changed && atOnce && waitingOf(after, algorithm, now) !== undefined) {
    return rotateKey(algorithm, { atOnce }, needs)
  }
  return report(algorithm, changed, kept, after)
}

/**
 * Revokes a compromised key: the key is no longer valid, and a new key signs at once. A key that does not sign yet is
 * also revoked, because it was stored in the same table as the compromised key. Resolves to undefined if the key does
 * not exist or was revoked before.
 */
export async function revokeKey(kid: string, needs: RotationNeeds): Promise<Rotation | undefined> {
  for (;;) {
    const kept = await listKeys(needs)
    const lost = kept.find((key) => key.kid === kid && key.revokedAt === undefined)
    if (lost === undefined) return undefined
    const algorithm = lost.algorithm as KeyAlgorithm
    const now = needs.clock.now()
    const changed = await succeed({ algorithm, signsFrom: now, revoke: { kid, now } }, kept, needs)
    // This attempt changes nothing if another process rotates at the same time. Then the key that must be revoked is
    // not revoked yet, so the loop tries again.
    if (changed) return report(algorithm, true, kept, await needs.keys.list())
  }
}

/**
 * Rotates the keys that are due. A key should sign for `rotateEvery`. It is due `publishAhead` before the end of this
 * time. Resolves to the rotations that took effect.
 */
export async function rotateWhatIsDue(kept: KeptKey[], needs: RotationNeeds): Promise<Rotation[]> {
  const { publishAhead, rotateEvery } = needs.times
  if (rotateEvery === undefined) return []
  const due = keyAlgorithms.filter((algorithm) => {
    const newest = newestOf(kept, algorithm)
    return newest !== undefined && needs.clock.now() >= newest.signsFrom + rotateEvery - publishAhead
  })
  const rotations: Rotation[] = []
  for (const algorithm of due) rotations.push(await rotateKey(algorithm, {}, needs))
  return rotations.filter(({ outcome }) => outcome === 'rotated')
}

/**
 * Whether a key has signed for longer than `rotateEvery` allows. If so, no process that rotates keys automatically is
 * running.
 */
export function isOverdue(key: KeptKey, now: number, { rotateEvery }: KeyTimes): boolean {
  return rotateEvery !== undefined && stateOf(key, now) === 'signing' && now > key.signsFrom + rotateEvery + slack
}

async function succeed(
  wanted: { algorithm: KeyAlgorithm; signsFrom: number; revoke?: { kid: string; now: number } },
  kept: KeptKey[],
  { keys, vault, clock, times }: RotationNeeds,
): Promise<boolean> {
  const { algorithm, signsFrom, revoke } = wanted
  const generation = nextGeneration(kept, algorithm)
  const next = await makeKey({ algorithm, generation, now: clock.now(), signsFrom }, vault)
  return keys.succeed(next, retirement(signsFrom, times), revoke)
}

function waitingOf(kept: KeptKey[], algorithm: KeyAlgorithm, now: number): KeptKey | undefined {
  return kept.find((key) => key.algorithm === algorithm && stateOf(key, now) === 'published')
}

function retirement(at: number, { tokensLast, hintsLast }: KeyTimes): Retirement {
  return { at, publishedUntil: at + tokensLast, verifiesUntil: at + Math.max(tokensLast, hintsLast) }
}

function newestOf(kept: KeptKey[], algorithm: KeyAlgorithm): KeptKey | undefined {
  return kept.find((key) => key.algorithm === algorithm && key.revokedAt === undefined)
}

function report(algorithm: KeyAlgorithm, changed: boolean, before: KeptKey[], after: KeptKey[]): Rotation {
  const ofIt = after.filter((key) => key.algorithm === algorithm)
  const [next, former] = ofIt.filter(({ revokedAt }) => revokedAt === undefined)
  const wasRevoked = new Set(before.filter(({ revokedAt }) => revokedAt !== undefined).map(({ kid }) => kid))
  return {
    algorithm,
    outcome: changed ? 'rotated' : 'under_way',
    next: next!,
    former,
    revoked: ofIt.filter(({ kid, revokedAt }) => revokedAt !== undefined && !wasRevoked.has(kid)),
  }
}
