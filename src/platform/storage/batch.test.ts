import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { writeBatch } from './batch.ts'
import { mergeRowStatements } from './database.ts'

/** A kind whose groups are seen, and end when they are told to, or with the test. */
function seen(t: TestContext, conflictKeys?: (item: string) => string[]) {
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
/** Two of them: in the first a group that has ended lets the next one begin. */
const turns = async () => {
  await turn()
  await turn()
}

test('what comes in the same turn is done together, and each hears of its own', async (t) => {
  const { groups, doing, items } = seen(t)
  const outcomes = Promise.all(['a', 'b', 'c'].map(doing))
  await turn()
  assert.deepEqual(items(), ['a b c'])
  groups[0]!.end()
  assert.deepEqual(await outcomes, ['a done', 'b done', 'c done'])
})

test('what comes while a group is under way waits, and is the next group', async (t) => {
  const { groups, doing, items } = seen(t)
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

test('while the database is busy with another kind, it waits for company, but not for long', async (t) => {
  // However slow this machine is, the other is not held up.
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const other = seen(t)
  const { doing, items } = seen(t)
  void other.doing('something else')
  await turn()
  void doing('a')
  await turn()
  void doing('b')
  await turns()
  assert.deepEqual(items(), ['a b'])
})

test('a group that is held up holds up nobody else for long', async (t) => {
  const { doing, items } = seen(t)
  void doing('held up')
  await turn()
  void doing('a')
  while (items().length < 2) await turn()
  assert.deepEqual(items(), ['held up', 'a'])
})

test('who has to stay apart is in another group, and not under way with one that is held up', async (t) => {
  const { groups, doing, items } = seen(t, (item) => [item[0]!])
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

test('what the tables do not take of one is no harm to the others', async () => {
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

test('what fails for another reason fails once, for all: it may have been carried out', async (t) => {
  const { groups, doing, items } = seen(t)
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

test('a crowd is taken in groups of a size that the database can answer soon', async (t) => {
  const { groups, doing } = seen(t)
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

test('statements about rows with the same text become one; others stay, in their order', () => {
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
