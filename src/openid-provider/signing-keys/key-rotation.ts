/** How the next signing key takes over from the last. Each rotation is one step; the rest is the clock's. */
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

/** Milliseconds. */
export interface KeyTimes {
  /** How long a key is published before it signs, so that whoever keeps a key set has it by then. */
  publishAhead: number
  /** How long a token that is signed now may be verified. */
  tokensLast: number
  /** How long an ID token that is signed now may be used as a hint. */
  hintsLast: number
  /** How long a key signs before the next does by itself; never, if it is left out. */
  rotateEvery?: number | undefined
}

export interface RotationNeeds extends KeyNeeds {
  times: KeyTimes
}

export interface Rotation {
  algorithm: KeyAlgorithm
  /** `under_way`: the next key was published before, by somebody else or at an earlier time; nothing has changed. */
  outcome: 'rotated' | 'under_way'
  /** The key that signs next, or by now. */
  next: KeptKey
  /** The one that it takes over from. */
  former: KeptKey | undefined
  revoked: KeptKey[]
}

/** Milliseconds that clocks may differ, and that an answer may be under way with a key that has just retired. */
const slack = 5 * 60_000

/** @param settings the sections of the configuration, in seconds */
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
 * Seconds that a fetched key set may be kept: half of the time that a key is published ahead. The other half is for
 * nodes that hear of a key a little later, and for clocks that differ.
 */
export function keySetMaxAge(publishAhead: number): number {
  return Math.floor(publishAhead / 2)
}

/**
 * Publishes the next key, to sign after `publishAhead`. Where one waits already, nothing changes: of two who rotate at
 * once, one does.
 * @param options.atOnce let it sign now: a key that waits already, else a new one that nobody has heard of
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
  // Somebody was faster, with a key that is to wait.
  if (!changed && atOnce && waitingOf(after, algorithm, now) !== undefined) {
    return rotateKey(algorithm, { atOnce }, needs)
  }
  return report(algorithm, changed, kept, after)
}

/**
 * A key in the wrong hands: from now on it is worth nothing, and a new one signs. What waited to sign lay beside it and
 * is revoked with it. Answers nothing if there is no such key that could be revoked.
 */
export async function revokeKey(kid: string, needs: RotationNeeds): Promise<Rotation | undefined> {
  for (;;) {
    const kept = await listKeys(needs)
    const lost = kept.find((key) => key.kid === kid && key.revokedAt === undefined)
    if (lost === undefined) return undefined
    const algorithm = lost.algorithm as KeyAlgorithm
    const now = needs.clock.now()
    const changed = await succeed({ algorithm, signsFrom: now, revoke: { kid, now } }, kept, needs)
    // If not, somebody rotated meanwhile: then the key is still there.
    if (changed) return report(algorithm, true, kept, await needs.keys.list())
  }
}

/** Rotates what has signed for its time, a little before: the next key is published ahead. */
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

/** Whether a key signs for longer than it was to: whoever rotates by itself does not run. */
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
