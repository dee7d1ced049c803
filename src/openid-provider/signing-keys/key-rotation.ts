/** Rotation of signing keys. Each rotation is one step; afterwards the state of a key only depends on the clock. */
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
  /** How long a key is published before it signs, so that cached key sets contain it by then. */
  publishAhead: number
  /** How long a token that is signed now is valid. */
  tokensLast: number
  /** How long an ID token that is signed now can be used as `id_token_hint`. */
  hintsLast: number
  /** How long a key signs before it is rotated automatically; without it, keys are never rotated automatically. */
  rotateEvery?: number | undefined
}

export interface RotationNeeds extends KeyNeeds {
  times: KeyTimes
}

/** The result of a rotation. */
export interface Rotation {
  algorithm: KeyAlgorithm
  /** `under_way`: the next key was published before, by this or another process; nothing has changed. */
  outcome: 'rotated' | 'under_way'
  /** The key that signs now or next. */
  next: KeptKey
  /** The key before it. */
  former: KeptKey | undefined
  revoked: KeptKey[]
}

/** Milliseconds for clocks that differ, and for responses on their way that a just retired key has signed. */
const slack = 5 * 60_000

/** @param settings sections of the configuration; times in seconds */
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
 * Returns the seconds for which clients may cache the key set: half of the time that a key is published ahead. The other
 * half is for nodes that read a new key a little later, and for clocks that differ.
 */
export function keySetMaxAge(publishAhead: number): number {
  return Math.floor(publishAhead / 2)
}

/**
 * Publishes the next key, which signs after `publishAhead`. Nothing changes if such a key exists already, so of two
 * simultaneous rotations only one takes effect.
 * @param options.atOnce the published key signs now; if there is none, a new key signs that no client has fetched yet
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
  // Another process was faster and published a key that does not sign yet.
  if (!changed && atOnce && waitingOf(after, algorithm, now) !== undefined) {
    return rotateKey(algorithm, { atOnce }, needs)
  }
  return report(algorithm, changed, kept, after)
}

/**
 * Revokes a compromised key. It is not valid any more, and a new key signs. A key that does not sign yet was stored beside it
 * and is revoked too. Resolves to undefined if there is no such key, or it was revoked before.
 */
export async function revokeKey(kid: string, needs: RotationNeeds): Promise<Rotation | undefined> {
  for (;;) {
    const kept = await listKeys(needs)
    const lost = kept.find((key) => key.kid === kid && key.revokedAt === undefined)
    if (lost === undefined) return undefined
    const algorithm = lost.algorithm as KeyAlgorithm
    const now = needs.clock.now()
    const changed = await succeed({ algorithm, signsFrom: now, revoke: { kid, now } }, kept, needs)
    // If nothing changed, another process rotated meanwhile, and the key is not revoked yet.
    if (changed) return report(algorithm, true, kept, await needs.keys.list())
  }
}

/** Rotates the keys that are due: `publishAhead` before their time is over. Resolves to the rotations that took effect. */
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

/** Whether a key signs for longer than `rotateEvery`: no process that rotates automatically is running. */
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
