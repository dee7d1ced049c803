import assert from 'node:assert/strict'
import { createHook } from 'node:async_hooks'
import { scryptSync } from 'node:crypto'
import { test } from 'node:test'
import { scryptHere, scryptOptions } from './scrypt.ts'
import { createScryptThreads, HASHES_AT_ONCE } from './scrypt-threads.ts'

const cost = { N: 16, r: 8, p: 1 }
const job = (number: number) => ({ secret: Uint8Array.of(number), salt: new Uint8Array(16), cost })

test('threads start when there is work, return what Node would, and use no threads of libuv', async (t) => {
  const expected = [1, 2].map((number) =>
    scryptSync(Uint8Array.of(number), new Uint8Array(16), 32, scryptOptions(cost)),
  )
  let requests = 0
  const hook = createHook({
    init(_id, type) {
      if (/^(SCRYPT|PBKDF2|RANDOMBYTES|HASH|SIGN)REQUEST$/.test(type)) requests += 1
    },
  }).enable()
  t.after(() => hook.disable())
  const threads = createScryptThreads(2)
  t.after(threads.close)
  assert.equal(threads.count(), 0)
  const [one, two] = await Promise.all([threads.scrypt(job(1)), threads.scrypt(job(2))])
  assert.deepEqual([one, two].map(Buffer.from), expected)
  assert.equal(threads.count(), 2)
  await threads.scrypt(job(3))
  assert.equal(threads.count(), 2, 'the same ones go on')
  assert.equal(requests, 0)
})

test('a job does not wait while all threads of libuv are busy: the hashing thread does not use them either', async (t) => {
  const threads = createScryptThreads(1)
  t.after(threads.close)
  await threads.scrypt(job(1))
  let ended = 0
  const inLibuv = Array.from({ length: 8 }, async (_, number) => {
    await scryptHere({ ...job(number), cost: { N: 2 ** 16, r: 8, p: 1 } })
    ended += 1
  })
  await threads.scrypt(job(2))
  assert.equal(ended, 0)
  await Promise.all(inLibuv)
})

test('of many simultaneous jobs no more run than there may be threads, and each gets its own result', async (t) => {
  const most = HASHES_AT_ONCE
  const threads = createScryptThreads()
  t.after(threads.close)
  const numbers = Array.from({ length: 10 * most }, (_, number) => number)
  const hashes = await Promise.all(numbers.map((number) => threads.scrypt(job(number))))
  assert.equal(threads.count(), most)
  assert.deepEqual(
    hashes.map(Buffer.from),
    numbers.map((number) => scryptSync(Uint8Array.of(number), new Uint8Array(16), 32, scryptOptions(cost))),
  )
})

test('a job that fails is rejected, and its thread continues', async (t) => {
  const threads = createScryptThreads()
  t.after(threads.close)
  await assert.rejects(threads.scrypt({ ...job(1), cost: { N: 3, r: 8, p: 1 } }), /scrypt failed/)
  assert.equal((await threads.scrypt(job(1))).length, 32)
  assert.equal(threads.count(), 1)
})

test('after close there are no threads: jobs under way and later ones are rejected', async () => {
  const threads = createScryptThreads()
  const long = { ...job(1), cost: { N: 2 ** 17, r: 8, p: 1 } }
  const underWay = Array.from({ length: HASHES_AT_ONCE }, () => assert.rejects(threads.scrypt(long), /ended/))
  const waiting = assert.rejects(threads.scrypt(long), /closed/)
  await threads.close()
  await Promise.all([...underWay, waiting])
  assert.equal(threads.count(), 0)
  await assert.rejects(threads.scrypt(job(1)), /closed/)
})
