import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBoundedWait, waitLimits } from './bounded-wait.ts'
import type { Slot } from './load-shedding.ts'
import { Overloaded } from './unavailable.ts'

test('anonymous callers of ten times as many networks as may wait leave capacity to returning users, each a little', async () => {
  const wait = createBoundedWait((_slot, awaited) => awaited)
  const answered = Promise.withResolvers<void>()
  const all: Promise<void>[] = []
  const from = (number: number) => ({ address: `10.${number >> 8}.${number & 255}.7` }) as Slot
  /** Resolves to how many of the calls wait; the others have been refused. */
  async function waiting(count: number, call: (number: number) => Promise<void>): Promise<number> {
    let refused = 0
    const calls = Array.from({ length: count }, (_, number) =>
      call(number).catch((error: unknown) => {
        assert.ok(error instanceof Overloaded)
        refused += 1
      }),
    )
    all.push(...calls)
    await new Promise(setImmediate)
    return count - refused
  }
  const until = () => answered.promise
  const { inAll, eachUser, usersInAll } = waitLimits
  assert.equal(await waiting(10 * inAll, (number) => wait(from(number), until)), inAll)
  assert.equal(await waiting(50, () => wait(from(1), until, 'ana')), eachUser)
  assert.equal(await waiting(1, () => wait(from(1), until, 'ben')), 1)
  assert.equal(await waiting(1000, (number) => wait(from(1), until, `user ${number}`)), usersInAll - eachUser - 1)
  answered.resolve()
  await Promise.all(all)
  assert.equal(await waiting(inAll, (number) => wait(from(number), async () => {})), inAll)
  await Promise.all(all)
})
