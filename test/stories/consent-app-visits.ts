/** Visits to the consent app. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import type { UserHooks } from '../../src/user/user.ts'
import { ana, openStage, type Stage } from '../cast/stage.ts'
import { openVisitor, type Seen, type Visitor } from '../cast/visitor.ts'

export const minutes = 60_000

/** Ana, signed in, looks at a request of Kiosk. */
export async function looking(t: TestContext, config: ConfigInput = {}, parameters: Record<string, string> = {}) {
  const stage = await openStage(t, { config })
  await stage.ring('kiosk', parameters)
  const path = `/approve/${await stage.newestRequest()}`
  const visitor = openVisitor(stage.url)
  const page = await visitor.signIn(ana, path)
  assert.match(page.text, /Kiosk asks for your approval/)
  return { stage, path, page, visitor }
}

/** Users of an application, one of whom can be disabled at any time. */
export async function openStageWithHooks(t: TestContext) {
  let disabled = false
  const { password, ...known } = ana
  const find = async (id: string) => (id === ana.id ? { ...known, disabled } : null)
  const users: UserHooks = {
    find,
    findByHint: async ({ value }) => (value === ana.username || value === ana.email ? find(ana.id) : null),
    verifyPassword: async (_user, given) => given === password,
  }
  const stage = await openStage(t, { config: { users } })
  const hooks = {
    disable: () => {
      disabled = true
    },
    enable: () => {
      disabled = false
    },
  }
  return { stage, hooks }
}

export function assertRefused(seen: Seen, status: number, says = /./): void {
  assert.equal(seen.status, status, seen.text)
  assert.match(String(seen.headers.get('content-type')), /^text\/html/)
  assert.match(seen.text, says)
}

export async function nothingDecided(stage: Stage): Promise<void> {
  assert.equal((await stage.waiting())[0]!.status, 'pending')
}

/** Where somebody who is known to the provider ends up. */
export async function lastStep(visitor: Visitor, path: string): Promise<string | undefined> {
  let at: string | undefined = path
  for (;;) {
    const seen: Seen = await visitor.get(at)
    if (at.startsWith('/session/callback')) return seen.location
    if (seen.location === undefined) throw new Error(`stopped at ${at}: ${seen.text}`)
    at = seen.location
  }
}
