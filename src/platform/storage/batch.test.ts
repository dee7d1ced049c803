import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { writeBatch } from './batch.ts'
import { mergeRowStatements } from './database.ts'

/**
 * A kind that records its groups. A group ends when the test calls `end` or `fail`, at the latest at the end of the
 * test.
 */
function recordGroups(t: TestContext, conflictKeys?: (item: string) => string[]) {
  const groups: { items: string[]; end(): void; fail(error: unknown): void }[] = []
  t.after(async () => {
    for (const { end } of groups) end()
    await turns()
  })
  const doing = writeBatch<string, string>({
    ...(conflictKeys && { conflictKeys }),
    execute: (items) =>
      new Promise((resolve, reject) => {
        groups.push({ items, end: () => resolve(items.map((item) => `${item} done`)), fail: reject })
      }),
  })
  return { groups, doing, items: () => groups.map(({ items }) => items.join(' ')) }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))
/** Waits for two turns of the event loop: the next group begins one turn after the previous group has ended. */
const turns = async () => {
  await turn()
  await turn()
}

test('items that arrive in the same turn are executed together, and each gets its own outcome', async (t) => {
  const { groups, doing, items } = recordGroups(t)
  const outcomes = Promise.all(['a', 'b', 'c'].map(doing))
  await turn()
  assert.deepEqual(items(), ['a b c'])
  groups[0]!.end()
  assert.deepEqual(await outcomes, ['a done', 'b done', 'c done'])
})

test('items that arrive while a group is under way wait and form the next group', async (t) => {
  const { groups, doing, items } = recordGroups(t)
  void doing('a')
  await turn()
  void doing('b')
  await turn()
  void doing('c')
  assert.deepEqual(items(), ['a'])
  groups[0]!.end()
  await turns()
  assert.deepEqual(items(), ['a', 'b c'])
})

test('while the database is busy with another kind, a group waits for more items, but not for long', async (t) => {
  // With mocked timers, the other group never counts as slow, even on a slow machine.
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const other = recordGroups(t)
  const { doing, items } = recordGroups(t)
  void other.doing('something else')
  await turn()
  void doing('a')
  await turn()
  void doing('b')
  await turns()
  assert.deepEqual(items(), ['a b'])
})

test('a slow group delays other groups only briefly', async (t) => {
  const { doing, items } = recordGroups(t)
  void doing('held up')
  await turn()
  void doing('a')
  while (items().length < 2) await turn()
  assert.deepEqual(items(), ['held up', 'a'])
})

test('items with the same conflict key are in different groups, and wait even for a slow group', async (t) => {
  const { groups, doing, items } = recordGroups(t, (item) => [item[0]!])
  for (const item of ['a1', 'a2', 'b1', 'a3']) void doing(item)
  await turn()
  assert.deepEqual(items(), ['a1 b1'])
  void doing('c1')
  while (items().length < 2) await turn()
  assert.deepEqual(items(), ['a1 b1', 'c1'])
  groups[0]!.end()
  groups[1]!.end()
  await turns()
  assert.deepEqual(items(), ['a1 b1', 'c1', 'a2'])
  groups[2]!.end()
  await turns()
  assert.deepEqual(items().at(-1), 'a3')
})

test('an item whose values the database rejects does not fail the others', async () => {
  const refused = Object.assign(new Error('a value is missing'), { code: '23502' })
  const doing = writeBatch<string, string>({
    async execute(items) {
      if (items.includes('bad')) throw refused
      return items
    },
  })
  const outcomes = await Promise.allSettled(['a', 'bad', 'b'].map(doing))
  assert.deepEqual(outcomes, [
    { status: 'fulfilled', value: 'a' },
    { status: 'rejected', reason: refused },
    { status: 'fulfilled', value: 'b' },
  ])
})

test('any other error fails the whole group without a retry: it may have been executed', async (t) => {
  const { groups, doing, items } = recordGroups(t)
  const outcomes = Promise.allSettled(['a', 'b'].map(doing))
  await turn()
  const gone = new Error('Connection terminated unexpectedly')
  groups[0]!.fail(gone)
  assert.deepEqual(
    (await outcomes).map((outcome) => outcome.status === 'rejected' && outcome.reason),
    [gone, gone],
  )
  assert.deepEqual(items(), ['a b'])
})

test('many items are split into groups of at most 128', async (t) => {
  const { groups, doing } = recordGroups(t)
  for (let number = 0; number < 300; number++) void doing(`${number}`)
  for (let group = 0; group < 3; group++) {
    await turns()
    groups[group]!.end()
  }
  assert.deepEqual(
    groups.map(({ items }) => items.length),
    [128, 128, 44],
  )
})

test('row statements with the same text are merged; all others stay, in their order', () => {
  const [a, b] = [
    { sql: 'insert a', rows: [{ n: 1 }] },
    { sql: 'update b', values: [1] },
  ]
  assert.deepEqual(mergeRowStatements([a, b, { sql: 'insert a', rows: [{ n: 2 }] }, b]), [
    { sql: 'insert a', rows: [{ n: 1 }, { n: 2 }] },
    b,
    b,
  ])
  assert.deepEqual(a.rows, [{ n: 1 }])
})
