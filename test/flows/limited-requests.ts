/** Many requests at once, and the answers of the limits. */
import assert from 'node:assert/strict'
import type { Answer } from '../support/stage.ts'

export const second = 1_000
export const minute = 60_000

export function assertTooMuch({ status, body, headers, text }: Answer, retryAfter?: number): void {
  assert.deepEqual([status, body.error], [429, 'access_denied'], text)
  const seconds = Number(headers.get('retry-after'))
  if (retryAfter === undefined) assert.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60, String(seconds))
  else assert.equal(seconds, retryAfter)
}
