/** A stage whose hashes can be held up, and password attempts on it. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { TestContext } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import type { Scrypt } from '../../src/user/password/scrypt.ts'
import { pollClient } from '../support/assertions.ts'
import type { Engine } from '../support/engines.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { listenToStatements } from '../support/statements.ts'
import { openVisitor } from '../support/visitor.ts'

export const boothSecret = newSecret()
export const code = '4711'

export const config: ConfigInput = {
  proxy: { trust: ['127.0.0.1/32', '::1'] },
  users: [{ ...ana, user_code: code }],
  clients: [pollClient('booth', { client_secret: boothSecret, backchannel_user_code_parameter: true })],
  // These limits are high, so that only the hashing delays attempts.
  limits: { signIn: { perName: 1000, perAddress: 1000 } },
}

/**
 * Returns a `scrypt` that computes nothing until it is released. Also returns how many computations are in progress,
 * and the highest number so far.
 */
export function heldUp() {
  const waiting: (() => void)[] = []
  const seen = { most: 0, begun: 0 }
  let isOpen = false
  const scrypt: Scrypt = async () => {
    seen.begun += 1
    if (!isOpen) {
      await new Promise<void>((resolve) => {
        waiting.push(resolve)
        seen.most = Math.max(seen.most, waiting.length)
      })
    }
    return randomBytes(32)
  }
  return {
    scrypt,
    seen,
    underWay: () => waiting.length,
    letOne: () => waiting.shift()?.(),
    letAll() {
      isOpen = true
      for (const go of waiting.splice(0)) go()
    },
  }
}

/** Opens a sign-in page. All attempts on it come from one browser, at the given address. */
export async function openSignIn(stage: Stage) {
  const visitor = openVisitor(stage.url)
  const page = await visitor.follow(await visitor.get('/'))
  const action = /<form method="post" action="(\/sign-in\/[^"/]+)">/.exec(page.text)![1]!
  const cookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
  const attempt = (address: string, name: string, password = 'wrong', signal?: AbortSignal) =>
    fetch(stage.url + action, {
      method: 'POST',
      headers: { cookie, 'x-forwarded-for': address },
      body: new URLSearchParams({ name, password }),
      redirect: 'manual',
      ...(signal && { signal }),
    })
  /** Makes an attempt at this sign-in from a browser that has begun another sign-in. */
  const withCookie = (cookie: string, address: string) =>
    fetch(stage.url + action, {
      method: 'POST',
      headers: { cookie, 'x-forwarded-for': address },
      body: new URLSearchParams({ name: 'ana', password: 'wrong' }),
      redirect: 'manual',
    })
  return Object.assign(attempt, { cookie, with: withCookie })
}

export async function openHeldUp(t: TestContext, more: { engine?: Engine; config?: ConfigInput } = {}) {
  const held = heldUp()
  const statements = listenToStatements()
  const { openDatabase } = statements
  const stage = await openStage(t, {
    config,
    ...more,
    parts: { passwords: { scrypt: held.scrypt, atOnce: 2 }, openDatabase },
  })
  t.after(held.letAll)
  return { held, stage, statements, attempt: await openSignIn(stage) }
}

/** Runs a whole flow of a client without user codes: a request, a decision, tokens. */
export async function issueTokens(stage: Stage): Promise<void> {
  const { auth_req_id } = (await stage.ring('kiosk')).body
  await stage.decide(await stage.newestRequest(), 'approved')
  const { status, body } = await stage.poll('kiosk', auth_req_id)
  assert.equal(status, 200)
  assert.ok(body.id_token)
}

/** Counts the 503 answers. */
export function refusalsAmong(answers: Promise<{ status: number }>[]): () => number {
  let refused = 0
  for (const answer of answers) {
    answer.then(
      ({ status }) => {
        if (status === 503) refused += 1
      },
      () => {},
    )
  }
  return () => refused
}
