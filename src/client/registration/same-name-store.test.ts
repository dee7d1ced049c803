import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clientPageSize } from '../client-store.ts'
import { createSameNameStore, mostWithSigns } from './same-name-store.ts'

test('at most ten thousand names with signs are compared, and other work runs between their pages', async () => {
  let pages = 0
  let turns = 0
  let isOver = false
  const read = async (sql: string) => {
    if (sql.includes('each($1)')) return []
    pages += 1
    return Array.from({ length: clientPageSize }, (_, n) => ({ id: `c${pages}-${n}`, name: '*'.repeat(16) }))
  }
  const other = () => {
    turns += 1
    if (!isOver) setImmediate(other)
  }
  setImmediate(other)
  const { find } = createSameNameStore({ read: read as never })
  const found = await find([{ client_id: 'a-client-with-a-long-id' }, { client_id: 'shop' }])
  isOver = true
  assert.deepEqual(found, [{ client: 'shop', registered: 'c1-0' }])
  assert.equal(pages, mostWithSigns / clientPageSize)
  assert.ok(turns >= pages - 1, `${turns}`)
  await find([])
  assert.equal(pages, mostWithSigns / clientPageSize, 'without a client of the operator, nothing is read')
})
