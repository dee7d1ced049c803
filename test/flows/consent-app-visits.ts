/** Visits to the consent app. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { openVisitor, type Seen } from '../support/visitor.ts'

/** Ana signs in to the consent app, and opens a request of Kiosk. */
export async function looking(t: TestContext, config: ConfigInput = {}, parameters: Record<string, string> = {}) {
  const stage = await openStage(t, { config })
  await stage.ring('kiosk', parameters)
  const path = `/approve/${await stage.newestRequest()}`
  const visitor = openVisitor(stage.url)
  const page = await visitor.signIn(ana, path)
  assert.match(page.text, /Kiosk asks for your approval/)
  return { stage, path, page, visitor }
}

export function assertRefused(seen: Seen, status: number, says = /./): void {
  assert.equal(seen.status, status, seen.text)
  assert.match(String(seen.headers.get('content-type')), /^text\/html/)
  assert.match(seen.text, says)
}

export async function nothingDecided(stage: Stage): Promise<void> {
  assert.equal((await stage.waiting())[0]!.status, 'pending')
}
