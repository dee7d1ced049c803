import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { createLog } from '../../platform/log.ts'
import { type AbsentUserNeeds, createAbsentUsers } from './absent-users.ts'

test('one round asks about every user with pending requests, in batches of at most a thousand', async () => {
  const pending = Array.from({ length: 2500 }, (_, number) => `user-${String(number).padStart(4, '0')}`)
  const asked: string[] = []
  let underWay = 0
  const mostUnderWay: number[] = []
  const batches: number[] = []
  const needs = {
    clock: createStageClock(),
    log: createLog('silent'),
    openRequests: {
      async usersWithPending(after: string, most: number) {
        const found = pending.filter((id) => id > after).slice(0, most)
        batches.push(found.length)
        return found
      },
    },
    async findUser(id: string) {
      mostUnderWay.push(++underWay)
      asked.push(id)
      await Promise.resolve()
      underWay -= 1
      return { id }
    },
  }
  const absentUsers = createAbsentUsers(needs as unknown as AbsentUserNeeds)
  assert.equal(await absentUsers.look(), 0)
  assert.deepEqual(asked.toSorted(), pending)
  assert.deepEqual(batches, [1000, 1000, 500])
  assert.equal(Math.max(...mostUnderWay), 8)

  asked.length = 0
  await absentUsers.look()
  assert.equal(asked.length, pending.length, 'the next round begins with the first user again')
})

test('a user whose requests cannot be denied keeps no other user waiting', async () => {
  const users = Array.from({ length: 20 }, (_, number) => `user-${number}`)
  const ended: string[] = []
  const lines: string[] = []
  const needs = {
    clock: createStageClock(),
    log: createLog('error', { write: (line) => void lines.push(line) }),
    openRequests: {
      usersWithPending: async () => [...users],
      async endOfUser(id: string) {
        if (Number(id.slice(5)) < 8) throw new Error('a damaged row')
        ended.push(id)
        return []
      },
    },
    findUser: async () => null,
  }
  const absentUsers = createAbsentUsers(needs as unknown as AbsentUserNeeds)
  assert.equal(await absentUsers.look(), 0)
  assert.deepEqual(ended.toSorted(), users.slice(8).toSorted())
  assert.equal(lines.filter((line) => line.includes('absent_users.failed')).length, 8)
})

test('a user about whom the application does not answer within ten seconds keeps no other user waiting', async () => {
  const users = Array.from({ length: 20 }, (_, number) => `user-${number}`)
  const lines: string[] = []
  const clock = createStageClock()
  let asked = 0
  const allAsked = Promise.withResolvers<void>()
  const needs = {
    clock,
    log: createLog('warn', { write: (line) => void lines.push(line) }),
    openRequests: { usersWithPending: async () => [...users] },
    async findUser(id: string) {
      // `setImmediate` resolves `allAsked` after the hook has answered for the other users.
      if (++asked === users.length) setImmediate(allAsked.resolve)
      return id === 'user-3' || id === 'user-11' ? await new Promise(() => {}) : { id }
    },
  }
  const absentUsers = createAbsentUsers(needs as unknown as AbsentUserNeeds)
  const round = absentUsers.look()
  await allAsked.promise
  clock.advance(10_000)
  assert.equal(await round, 0)
  assert.deepEqual(lines.map((line) => JSON.parse(line).user).toSorted(), ['user-11', 'user-3'])
})

test('a round makes no combined signals, which would cost more than the calls of a fast hook', async (t) => {
  const combined = t.mock.method(AbortSignal, 'any')
  const needs = {
    clock: createStageClock(),
    log: createLog('silent'),
    openRequests: { usersWithPending: async () => Array.from({ length: 500 }, (_, number) => `user-${number}`) },
    findUser: async (id: string) => ({ id }),
  }
  await createAbsentUsers(needs as unknown as AbsentUserNeeds).look()
  assert.equal(combined.mock.callCount(), 0)
})
