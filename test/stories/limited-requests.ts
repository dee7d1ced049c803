/** Many requests at once, and the answers that limits give. */
import assert from 'node:assert/strict'
import { checkConfig } from '../../src/config/check.ts'
import type { CheckedConfig } from '../../src/config/config.ts'
import type { Answer, RingingClient, Stage } from '../cast/stage.ts'

export const second = 1_000
export const minute = 60_000

/** Rings so often at the same moment, the clients taking turns. */
export function ringAtOnce(stage: Stage, times: number, who: RingingClient[], about = ['ana']): Promise<Answer[]> {
  const numbers = Array.from({ length: times }, (_, number) => number)
  return Promise.all(
    numbers.map((number) =>
      stage.ring(who[number % who.length]!, { login_hint: about[Math.floor(number / who.length) % about.length]! }),
    ),
  )
}

/** The settings that a configuration makes. */
export function checkedFor(input: Record<string, unknown>): CheckedConfig {
  const checked = checkConfig(input)
  return 'config' in checked ? checked.config : assert.fail(checked.problems.join())
}

export function assertTooMuch({ status, body, headers, text }: Answer, retryAfter?: number): void {
  assert.deepEqual([status, body.error], [429, 'access_denied'], text)
  const seconds = Number(headers.get('retry-after'))
  if (retryAfter === undefined) assert.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60, String(seconds))
  else assert.equal(seconds, retryAfter)
}
